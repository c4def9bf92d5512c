package capture

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Look is what a source looked like, without a byte being read: enough to tell
// by another look that nothing has changed in between. LookAt makes one, and a
// capture whose copy can be relied on that way (Cut.Look).
//
// Two looks that are alike prove this: each file had the same stamps at both,
// and at the first they were old enough that any write after it would have left
// others. So nothing was written to any file from when the capture copied it to
// the second look, and at the moment when the second began the source was, byte
// by byte, what the capture had copied. No lock is needed to say so, for nothing
// is copied, and it does not matter what the next moment brings. It holds for
// every state in which a source can be:
//
//   - A write that was acknowledged has changed the database, or in
//     write-ahead-log mode the log, before it was. Both are looked at.
//   - A transaction or a save under way has either changed a file, and then it
//     shows, or it has not, and then it has not begun as far as a crash could
//     tell. A journal that was not there shows as a new name.
//   - What the files mean follows from their bytes. The shared-memory file adds
//     nothing to the log: SQLite makes it anew from there; and readers write to
//     it. So it alone is passed over.
//   - A hot journal that a capture has met and that still lies there is rolled
//     back in the copy already.
//
// What stamps cannot tell is excluded: see lasting, and kernel.
type Look struct {
	Begun   time.Time `json:"begun"` // before the first entry was looked at
	Kernel  kernel    `json:"kernel"`
	Entries []Entry   `json:"entries"`
}

// Entry is something in a source, as lstat(2) shows it.
type Entry struct {
	Path      string      `json:"path"` // relative, with slashes; "." for the source itself
	Mode      fs.FileMode `json:"mode"`
	Size      int64       `json:"size_bytes"`
	ModTime   int64       `json:"mtime_ns"` // since 1970
	Change    int64       `json:"ctime_ns"`
	Device    uint64      `json:"device"`
	Inode     uint64      `json:"inode"`
	Allocated int64       `json:"allocated_bytes"`
	UID       int         `json:"uid"`
	GID       int         `json:"gid"`
	Target    string      `json:"target,omitempty"` // of a symbolic link
}

// kernel is what stamps depend on. A power cut may keep a stamp and lose what
// was written with it, for Chroma does not sync its segments; and a clock that is
// set back may give the same stamp twice. So looks are compared only within one
// run of a kernel, during which its clock was not set.
type kernel struct {
	Boot string `json:"boot"`         // the kernel's random name for its run; "" if there is none
	Born int64  `json:"born_ns"`      // what the clock would have shown when the run began
	FS   string `json:"fs,omitempty"` // of the source, if its stamps cannot be relied on
}

// clockSlack is by how much Born may seem to differ, since two clocks cannot be
// read at the same moment. A clock set back by less hides a change only if the
// file is written again in the very tick that stamped it before.
const clockSlack = 100 * time.Millisecond

// LookAt looks at the source dir. Errors are those of looking; whether it can be
// captured is not asked.
func LookAt(dir string) (*Look, error) {
	l := &Look{Begun: time.Now(), Kernel: kernelNow(dir)}
	tree, err := look(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range tree {
		l.Entries = append(l.Entries, e.seen(dir))
	}
	return l, nil
}

// Changed returns what tells l from since, an earlier look at the same source,
// in a few words for a log; "" if nothing does, and so nothing has changed.
func (l *Look) Changed(since *Look) string {
	born := time.Duration(l.Kernel.Born - since.Kernel.Born)
	switch {
	case l.Kernel.Boot == "" || l.Kernel.FS != "" || since.Kernel.FS != "":
		return "time stamps cannot be relied on here"
	case l.Kernel.Boot != since.Kernel.Boot:
		return "the system was started again"
	case born.Abs() > clockSlack || !l.Begun.After(since.Begun):
		return "the clock was set"
	case len(l.Entries) == 0 || len(since.Entries) == 0:
		return "nothing was seen"
	}
	was := make(map[string]Entry, len(since.Entries))
	for _, e := range since.Entries {
		was[e.Path] = e
	}
	for _, e := range l.Entries {
		old, ok := was[e.Path]
		if !ok {
			return e.Path + " is new"
		}
		if e != old {
			return e.Path + " has changed"
		}
		delete(was, e.Path)
	}
	for path := range was {
		return path + " is gone"
	}
	return ""
}

// seen makes an Entry of e, whose link, if it is one, lies in root.
func (e entry) seen(root string) Entry {
	out := Entry{
		Path: e.path, Mode: e.info.Mode(), Size: e.sig.size, ModTime: e.sig.mtime, Change: e.sig.ctime, Device: e.sig.device,
		Inode: e.sig.inode, Allocated: e.sig.allocated, UID: e.sig.uid, GID: e.sig.gid,
	}
	if e.info.Mode()&fs.ModeSymlink != 0 {
		// A link that went away just now has no target, and so is not alike.
		out.Target, _ = os.Readlink(filepath.Join(root, filepath.FromSlash(e.path)))
	}
	return out
}

// lasting reports whether any change after now will show in the stamps, however
// much later it is looked for. That is more than aged says, which must hold for
// the length of a capture only: it asks for the stamp that nobody can set, that
// of the inode's last change, and that it lies in the past, for a clock comes by
// every time in the future once.
func (g signature) lasting(now time.Time) bool {
	return g.ctime != 0 && now.UnixNano()-g.ctime > int64(g.grain())
}

// remember keeps what the source looked like at the end of a freeze that began
// at begun, if later looks can be compared with it: everything was copied as it
// is there, and its stamps are lasting. It comes before fold, which changes the
// copy.
func (s *session) remember(begun time.Time) {
	s.remembered = nil
	l := &Look{Begun: begun, Kernel: kernelNow(s.source)}
	for _, e := range s.tree {
		c, copied := s.copied[e.path]
		switch {
		case !e.keepable(), e.info.IsDir() && copied:
			// All that is kept of it is in the entry itself.
		case !copied || c.sig != e.sig || e.regular() && !c.lasting:
			s.log.Debug("look not kept", "source", s.source, "reason", e.path+" was written just now")
			return
		}
		// Links as they were copied, and not as they may be by now.
		l.Entries = append(l.Entries, e.seen(s.data))
	}
	s.remembered = l
}
