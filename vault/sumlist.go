package vault

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"colorfast"
	"colorfast/pages"
)

// A sum list holds the sums of all parts of a backup, file by file, page by page.
// It lies in the cache folder of the host that made the backup, and lets the
// next one see what has changed without asking the vault. Losing it costs time:
// it can be made again from the tables of the objects. All of it is
// authenticated under the vault's key, for with a forged one a backup would miss
// what it takes for unchanged.
const sumListMark = "colorfast sums 1\n"

// sumWriter writes a list.
type sumWriter struct {
	file *os.File
	out  *bufio.Writer
	mac  hash.Hash
}

// newSums begins the list of a backup of a source; nil if there is no place for
// it.
func (v *Vault) newSums(ctx context.Context, s colorfast.Source) *sumWriter {
	path := v.sumListPath(s)
	if path == "" {
		return nil
	}
	w, err := newSumWriter(filepath.Dir(path), v.sumKey)
	if err != nil {
		v.warn(ctx, notKept, err)
		return nil
	}
	return w
}

const notKept = "list of sums not kept; the next backup will read the vault's"

// newSumWriter begins a list in a temporary file in dir, or in the system's
// folder for such if dir is "".
func newSumWriter(dir string, key []byte) (*sumWriter, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		sweepSums(dir)
	}
	f, err := os.CreateTemp(dir, sumTemp)
	if err != nil {
		return nil, err
	}
	if dir == "" { // for this process only
		if err := os.Remove(f.Name()); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	w := &sumWriter{file: f, mac: hmac.New(sha256.New, key)}
	w.out = bufio.NewWriterSize(io.MultiWriter(f, w.mac), 64<<10)
	_, err = w.out.WriteString(sumListMark)
	return w, err
}

// sumTemp is how the files of lists that are being written are named.
const sumTemp = "colorfast-sums-*"

// sweepSums removes what killed runs have left in a cache folder.
func sweepSums(dir string) {
	left, err := filepath.Glob(filepath.Join(dir, sumTemp))
	if err != nil {
		return
	}
	for _, path := range left {
		if fi, err := os.Stat(path); err == nil && time.Since(fi.ModTime()) > tempAge {
			_ = os.Remove(path) // tried again by the next run
		}
	}
}

// add adds a sum. An error, as of a full disk, comes again when the list is
// sealed.
func (w *sumWriter) add(s pages.Sum) {
	if w != nil {
		_, _ = w.out.Write(s[:])
	}
}

// seal ends the list of a backup. The file may be read then.
func (w *sumWriter) seal(id colorfast.BackupID) error {
	if err := w.out.Flush(); err != nil {
		return err
	}
	io.WriteString(w.mac, string(id))
	_, err := w.file.Write(append(w.mac.Sum(nil), id...))
	return err
}

// remove removes a list that is not kept.
func (w *sumWriter) remove() {
	if w == nil {
		return
	}
	_ = errors.Join(w.file.Close(), os.Remove(w.file.Name())) // a temporary file
}

// sumList is a list that is read.
type sumList struct{ file *os.File }

// at returns the sums of count parts from the given one on.
func (l *sumList) at(first, count int64) ([]pages.Sum, error) {
	b := make([]byte, count*pages.SumBytes)
	if _, err := l.file.ReadAt(b, int64(len(sumListMark))+first*pages.SumBytes); err != nil {
		return nil, fmt.Errorf("read the list of sums: %w", err)
	}
	out := make([]pages.Sum, count)
	for i := range out {
		out[i] = pages.Sum(b[i*pages.SumBytes:])
	}
	return out, nil
}

func (l *sumList) close() { _ = l.file.Close() } // it was only read

// openSumList opens the list of a backup with n parts. An error means that there
// is no good one, for whatever reason.
func openSumList(path string, key []byte, id colorfast.BackupID, n int64) (_ *sumList, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	body := int64(len(sumListMark)) + n*pages.SumBytes
	mac := hmac.New(sha256.New, key)
	if _, err := io.CopyN(mac, f, body); err != nil {
		return nil, err
	}
	rest, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return nil, err
	}
	io.WriteString(mac, string(id))
	if !bytes.Equal(rest, append(mac.Sum(nil), id...)) {
		return nil, fmt.Errorf("list of sums %q: it is not that of backup %s", path, id)
	}
	return &sumList{file: f}, nil
}

// sumListPath returns where the list of a source's last backup lies, "" if no
// cache folder is known.
func (v *Vault) sumListPath(s colorfast.Source) string {
	if v.opts.CacheDir == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s.String()))
	return filepath.Join(v.opts.CacheDir, "sums", hex.EncodeToString(v.conn.UniqueID()[:8]), hex.EncodeToString(sum[:8]))
}

// keep puts a sealed list in its place, if there is a folder for it. The next
// backup is slower without it, and no worse.
func (v *Vault) keep(ctx context.Context, w *sumWriter, m *colorfast.Manifest) {
	if w == nil {
		return
	}
	err := w.seal(m.ID)
	if err == nil {
		err = os.Rename(w.file.Name(), v.sumListPath(m.Source))
	}
	if err != nil {
		v.warn(ctx, notKept, err)
	}
	w.remove()
}
