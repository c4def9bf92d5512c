// Package openfiles tells which processes have files under a directory open.
//
// Files are recognized by device and inode, so that processes in containers,
// which see them under other paths, are found as well. It looks only into
// /proc: it opens none of the files themselves, because closing a SQLite
// database would drop the locks that this process holds on it.
//
// Start reading at Under.
package openfiles

// Report is what a look at the processes of this host gave.
type Report struct {
	// Processes have at least one file or directory open or mapped, in the
	// order of their PIDs. The process that looks is never among them.
	Processes []Process
	// Mounts are the places where the directory itself is mounted, in this or
	// another mount namespace that a process lives in. A rename of the
	// directory does not reach them: they keep showing what was renamed away.
	Mounts []Mount
	// Unseen counts the processes that could not be looked into, for lack of
	// permission. Kernel threads are not counted.
	Unseen int
	// Confined is set when whole groups of processes cannot even be counted:
	// this process lives in a PID namespace of its own (a container), or /proc
	// hides other users' processes.
	Confined bool
}

// Process is a process that has something under the directory open.
type Process struct {
	PID     int
	Command string   // program and its first words, never its flags, which may hold secrets
	Write   bool     // at least one file is open for writing, or mapped shared and writable
	Files   []string // relative to the directory, sorted; "." is the directory itself
}

// Mount is a place where the directory is mounted.
type Mount struct {
	PID     int    // a process that sees the mount; 0 means every process in our own mount namespace
	Command string // of that process, "" for our own mount namespace
	Path    string // where that process sees it
}
