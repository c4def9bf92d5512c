package vault

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"colorfast"
	"colorfast/pages"
)

// maxFile is more than any file system holds, and leaves room to add sizes up.
const maxFile = 1 << 53

// checkList checks a list of files, as it came from a caller or from a vault that
// somebody hostile has the key of. A path that leaves the tree, is listed twice
// or lies below a file is an error.
func checkList(files []colorfast.File) error {
	types := make(map[string]colorfast.FileType, len(files))
	for i := range files {
		f := &files[i]
		if !fs.ValidPath(f.Path) || strings.ContainsRune(f.Path, 0) {
			return fmt.Errorf("file %q: not a path inside the source", f.Path)
		}
		if f.Size < 0 || f.Size > maxFile || f.Type != colorfast.Regular && f.Size != 0 {
			return fmt.Errorf("file %q: size %d cannot be", f.Path, f.Size)
		}
		if f.Type != colorfast.Regular && f.Type != colorfast.Directory && f.Type != colorfast.Symlink {
			return fmt.Errorf("file %q: type %q is not known", f.Path, f.Type)
		}
		if !f.Layout.Valid() {
			return fmt.Errorf("file %q: its layout contradicts itself", f.Path)
		}
		if _, twice := types[f.Path]; twice {
			return fmt.Errorf("file %q: listed twice", f.Path)
		}
		types[f.Path] = f.Type
	}
	if t, ok := types["."]; ok && t != colorfast.Directory {
		return fmt.Errorf("file %q: not a directory", ".")
	}
	for p := range types {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if t, ok := types[dir]; ok && t != colorfast.Directory {
				return fmt.Errorf("file %q: not a directory", dir)
			}
		}
	}
	return nil
}

// regular returns the regular files of a list, which are those that have streams,
// in its order.
func regular(files []colorfast.File) []*colorfast.File {
	var out []*colorfast.File
	for i := range files {
		if files[i].Type == colorfast.Regular {
			out = append(out, &files[i])
		}
	}
	return out
}

// cutsOf returns how the regular files of a list are cut.
func cutsOf(files []colorfast.File) []pages.Cut {
	var out []pages.Cut
	for _, f := range regular(files) {
		out = append(out, pages.NewCut(f.Size, f.Layout))
	}
	return out
}

func totalSize(files []colorfast.File) int64 {
	var n int64
	for i := range files {
		n += files[i].Size
	}
	return n
}
