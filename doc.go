// Package colorfast is the vocabulary of colorfast, which backs up Chroma (the
// vector database) while it serves, and gets it back whole.
//
// It holds the nouns (Source, Backup, Manifest, File, Inventory, Finding), the
// ports that several verbs share (Vault, Progress) and the kinds of errors. It
// does nothing itself: standard library only, no files, no network, no logs.
//
// Only the JSON of the commands and the stored form of a backup (see
// Manifest.Format) are stable contracts. The Go packages are not: they change
// as the program needs.
//
// Start reading at Manifest, then ARCHITECTURE.md.
package colorfast

// Version of this program, as written into every backup and shown by
// "colorfast version".
const Version = "0.1.0"
