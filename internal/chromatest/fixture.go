package chromatest

import (
	"archive/tar"
	"compress/gzip"
	"embed"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// fixtures are persist directories that real Chromas wrote, with what Chroma's
// own get returned of them; testdata/make.py makes them.
//
//go:embed testdata/*.tar.gz
var fixtures embed.FS

// Fixtures returns the versions of Chroma of which there is a fixture.
func Fixtures(tb testing.TB) []string {
	tb.Helper()
	found, err := fs.Glob(fixtures, "testdata/*.tar.gz")
	if err != nil || len(found) < 5 {
		tb.Fatalf("found %d fixtures, want 5 (%v)", len(found), err)
	}
	for i := range found {
		found[i] = strings.TrimSuffix(path.Base(found[i]), ".tar.gz")
	}
	return found
}

// Fixture unpacks the fixture of a version into a folder that goes with the
// test. It returns the persist directory, and the path of the JSON with Chroma's
// answers.
func Fixture(tb testing.TB, version string) (dir, expected string) {
	tb.Helper()
	to := tb.TempDir()
	if err := UnpackFixture(version, to); err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(to, "data"), filepath.Join(to, "expected.json")
}

// UnpackFixture unpacks the fixture of a version into an existing folder: the
// persist directory as data, and expected.json.
func UnpackFixture(version, to string) (err error) {
	f, err := fixtures.Open("testdata/" + version + ".tar.gz")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(to, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else if b, readErr := io.ReadAll(r); readErr == nil {
			err = os.WriteFile(path, b, 0o644)
		} else {
			err = readErr
		}
		if err != nil {
			return err
		}
	}
}
