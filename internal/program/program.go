// Package program lets tests run other people's programs: it puts what is
// installed into the cache whole or not at all, also with several processes at
// it, starts programs on ports that nobody else takes, keeps what they said, and
// ends them. Nothing here is shipped.
//
// Start reading at Install and Launch; internal/chromatest and internal/servers
// say what to install and how to start it.
package program
