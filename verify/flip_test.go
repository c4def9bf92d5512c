package verify_test

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"colorfast"
	"colorfast/chroma"
	"colorfast/verify"
)

// every makes the test of segments flip every byte, which takes minutes; without
// it a random sample is flipped, as many as are done in time.
var every = flag.Bool("every", false, "flip every byte of a segment, however long it takes")

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func contents(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sentinel is a directory with the manifest of what it holds. Flips in it are
// judged: each must be found, or change a digest so that a proof against the
// manifest finds it, or be harmless, which is when every record is the same.
type sentinel struct {
	t       *testing.T
	dir     string
	scratch string
	want    *colorfast.Manifest

	found, digests, harmless int
}

func newSentinel(t *testing.T, dir string) *sentinel {
	s := &sentinel{t: t, dir: dir, scratch: t.TempDir()}
	s.want = sealed(look(t, dir, s.scratch))
	return s
}

// flip writes b with one bit flipped to path and judges.
func (s *sentinel) flip(path string, b []byte, at int, mask byte) {
	s.t.Helper()
	b[at] ^= mask
	defer func() { b[at] ^= mask }()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.judge(filepath.Base(path) + " byte " + strconv.Itoa(at) + " xor " + strconv.Itoa(int(mask)))
}

func (s *sentinel) judge(what string) {
	s.t.Helper()
	v := verify.Directory{Dir: s.dir, Scratch: s.scratch}
	r, err := v.Run(s.t.Context())
	if err != nil {
		s.t.Errorf("%s: could not look: %v", what, err)
		return
	}
	if r.Outcome() == colorfast.Failed {
		s.found++
		return
	}
	proof, err := (verify.Directory{Scratch: s.scratch}).Proof()(s.t.Context(), s.dir, s.want)
	switch {
	case err != nil:
		s.t.Errorf("%s: could not prove: %v", what, err)
	case len(proof) > 0:
		s.digests++
	case !sameRecords(&r.Inventory, &s.want.Inventory):
		s.t.Errorf("%s: records differ, and nothing was found", what)
	default:
		s.harmless++
	}
}

// sameRecords compares all collections by id, count and digest; it is what Proof
// must do, once more.
func sameRecords(a, b *colorfast.Inventory) bool {
	type content struct {
		records int64
		digest  colorfast.Digest
	}
	had := map[string]content{}
	for i := range a.Collections {
		c := &a.Collections[i]
		had[c.ID] = content{c.Records, c.Digest}
	}
	for i := range b.Collections {
		c := &b.Collections[i]
		if had[c.ID] != (content{c.Records, c.Digest}) {
			return false
		}
	}
	return len(a.Collections) == len(b.Collections)
}

// alone makes a directory with one collection only out of a fixture's.
func alone(t *testing.T, version, name string) (dir string, c *colorfast.Collection) {
	t.Helper()
	dir = fixture(t, version)
	r := look(t, dir, t.TempDir())
	c = collection(t, r, name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != c.VectorSegment {
			remove(t, filepath.Join(dir, e.Name()))
		}
	}
	execute(t, dir, strings.ReplaceAll(`
		DELETE FROM embedding_metadata WHERE id IN (SELECT id FROM embeddings WHERE segment_id IN (SELECT id FROM segments WHERE collection <> 'ID'));
		DELETE FROM embedding_metadata_array WHERE id IN (SELECT id FROM embeddings WHERE segment_id IN (SELECT id FROM segments WHERE collection <> 'ID'));
		DELETE FROM embedding_fulltext_search WHERE rowid IN (SELECT id FROM embeddings WHERE segment_id IN (SELECT id FROM segments WHERE collection <> 'ID'));
		DELETE FROM embeddings WHERE segment_id IN (SELECT id FROM segments WHERE collection <> 'ID');
		DELETE FROM embeddings_queue WHERE topic NOT LIKE '%ID';
		DELETE FROM max_seq_id WHERE segment_id IN (SELECT id FROM segments WHERE collection <> 'ID');
		DELETE FROM collection_metadata WHERE collection_id <> 'ID';
		DELETE FROM segments WHERE collection <> 'ID';
		DELETE FROM collections WHERE id <> 'ID';`, "ID", c.ID))
	r = look(t, dir, t.TempDir())
	if len(r.Inventory.Collections) != 1 || r.Inventory.Records() != c.Records || r.Outcome() != colorfast.Passed {
		t.Fatalf("%d collections, %d records: %s", len(r.Inventory.Collections), r.Inventory.Records(), brief(r.Findings))
	}
	return dir, c
}

// TestFlippedBytesOfSegments flips one bit of the bytes of a small collection's
// segment.
func TestFlippedBytesOfSegments(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	dir, c := alone(t, "1.5.9", "all-cosine")
	s := newSentinel(t, dir)
	rng := rand.New(rand.NewPCG(1, 1))
	for _, name := range []string{chroma.HeaderFile, chroma.PickleFile, chroma.LinksFile, chroma.LengthFile, chroma.DataFile} {
		path := filepath.Join(dir, c.VectorSegment, name)
		good := contents(t, path)
		was, begun := *s, time.Now()
		for n, i := range rng.Perm(len(good)) {
			if !*every && (n > 150 || time.Since(begun) > 6*time.Second) {
				break
			}
			s.flip(path, good, i, 1<<rng.IntN(8))
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s, %d bytes: %d found, %d by digest, %d harmless", name, len(good), s.found-was.found, s.digests-was.digests, s.harmless-was.harmless)
	}
	if s.found == 0 || s.digests == 0 || s.harmless == 0 {
		t.Error("one of the three never happened: this test shows little")
	}
}

// TestFlippedBytesOfDatabases flips bits of chroma.sqlite3 at random places, and
// zeroes every page in turn.
func TestFlippedBytesOfDatabases(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	for _, version := range []string{"1.5.9", "0.5.23"} {
		dir := fixture(t, version)
		s := newSentinel(t, dir)
		rng := rand.New(rand.NewPCG(2, 2))
		path := filepath.Join(dir, chroma.SQLiteFile)
		good := contents(t, path)
		begun := time.Now()
		for n := 0; n < 400 && time.Since(begun) < 8*time.Second; n++ {
			s.flip(path, good, rng.IntN(len(good)), 1<<rng.IntN(8))
		}
		for at := range 100 { // the header
			s.flip(path, good, at, 1<<rng.IntN(8))
		}
		t.Logf("%s: %d found, %d by digest, %d harmless, in %s", version, s.found, s.digests, s.harmless, time.Since(begun))
		if s.found == 0 || s.digests == 0 || s.harmless == 0 {
			t.Error("one of the three never happened: this test shows little")
		}
		zeroed := *s
		for page := 0; page < len(good)/4096; page++ {
			b := bytes.Clone(good)
			clear(b[page*4096 : (page+1)*4096])
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			s.judge("page " + strconv.Itoa(page+1) + " zeroed")
		}
		t.Logf("%s: %d pages zeroed: %d found, %d by digest, %d harmless", version, len(good)/4096, s.found-zeroed.found, s.digests-zeroed.digests, s.harmless-zeroed.harmless)
	}
}
