package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"colorfast"
	"colorfast/internal/contract"
	"colorfast/internal/servers"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/minio/minio-go/v7"
)

// tableColumns of the table of TestStorages, in order.
var tableColumns = []string{"backup", "increment", "restore", "verify", "delete", "lock", "resume", "fault"}

// TestStorages does with each real storage what vaults are for, with a bad
// network in between, and prints what was done where.
func TestStorages(t *testing.T) {
	table := map[string]map[string]string{}
	all := append([]storage{{"file", nil}}, storages()...)
	t.Cleanup(func() { printTable(t, all, table) })
	for _, s := range all {
		done := map[string]string{}
		table[s.name] = done
		t.Run(s.name, func(t *testing.T) {
			t.Parallel() // most of it waits for a bad network
			if s.start == nil {
				storageSteps(t, done, func(t *testing.T) Options { return Options{URL: t.TempDir(), Password: password} }, nil)
				return
			}
			r := s.start(t)
			storageSteps(t, done, func(t *testing.T) Options { return r.options(r.place(t)) }, r)
		})
	}
}

// printTable prints what was done where.
func printTable(t *testing.T, all []storage, table map[string]map[string]string) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| storage | %s |\n|---%s|\n", strings.Join(tableColumns, " | "), strings.Repeat("|---", len(tableColumns)))
	for _, s := range all {
		fmt.Fprintf(&b, "| %s ", s.name)
		for _, c := range tableColumns {
			said := table[s.name][c]
			if said == "" {
				said = "*not run*"
			}
			fmt.Fprintf(&b, "| %s ", said)
		}
		b.WriteString("|\n")
	}
	t.Log(b.String())
}

// storageSteps fills a line of the table. r is nil for a folder.
func storageSteps(t *testing.T, done map[string]string, place func(*testing.T) Options, r *remote) {
	step := func(column string, run func(t *testing.T)) {
		t.Run(column, func(t *testing.T) {
			defer func() {
				switch {
				case t.Failed():
					done[column] = "failed"
				case !t.Skipped() && done[column] == "":
					done[column] = "passed"
				}
			}()
			run(t)
		})
	}
	o := place(t)
	if err := Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	v := reopen(t, o)
	first, firstFiles := contract.Sample(1)
	next, nextFiles := contract.Sample(1)
	step("backup", func(t *testing.T) {
		if err := v.Put(t.Context(), first, firstFiles, nil); err != nil {
			t.Fatal(err)
		}
	})
	step("increment", func(t *testing.T) {
		next, nextFiles = contract.Next(first, firstFiles, 2)
		if err := v.Put(t.Context(), next, nextFiles, nil); err != nil {
			t.Fatal(err)
		}
		if next.StoredBytes > first.StoredBytes/2 {
			t.Errorf("the increment added %d bytes, the first backup %d", next.StoredBytes, first.StoredBytes)
		}
	})
	step("restore", func(t *testing.T) {
		fresh := reopen(t, o)
		contract.Whole(t, fresh, first.ID, firstFiles)
		contract.Whole(t, fresh, next.ID, nextFiles)
	})
	step("verify", func(t *testing.T) {
		if found, err := v.Check(t.Context(), first, colorfast.Bytes, nil); err != nil || len(found) > 0 {
			t.Fatalf("%v, %v", found, err)
		}
		loseAPack(t, v)
		if found, err := v.Check(t.Context(), first, colorfast.Stored, nil); err != nil || len(found) == 0 {
			t.Fatalf("a pack is gone, and check finds %v, %v", found, err)
		}
	})
	step("delete", func(t *testing.T) { deleteStep(t, place(t)) })
	step("lock", func(t *testing.T) {
		if r != nil && r.s3 != nil {
			lockStep(t, r)
			return
		}
		noLockStep(t, place(t))
		done["lock"] = "refused"
	})
	if r == nil {
		return // faults of a folder are in fault_test.go
	}
	faults := servers.StartToxiproxy(t)
	step("resume", func(t *testing.T) { resumeStep(t, r, faults) })
	step("fault", func(t *testing.T) { faultStep(t, r, faults) })
}

// lockStep: what a vault with a lock stores cannot be deleted by the owner of the
// bucket. TestAttacker tries all that there is.
func lockStep(t *testing.T, r *remote) {
	const bucket = "colorfast-lock"
	r.s3.MakeBucket(t, bucket, servers.Lockable)
	o := r.options(bucket)
	o.Lock = Lock{Compliance, 3 * 24 * time.Hour}
	v := made(t, o)
	all := putSome(t, v, 1, 1)
	c, locked := r.s3.Client(t), 0
	for _, i := range names(t, r.s3, bucket) {
		if !isLocked(i.Key) {
			continue
		}
		locked++
		if err := c.RemoveObject(t.Context(), bucket, i.Key, minio.RemoveObjectOptions{VersionID: i.VersionID, GovernanceBypass: true}); err == nil {
			t.Errorf("%s was deleted", i.Key)
		}
	}
	if locked < 4 {
		t.Errorf("only %d objects are locked", locked)
	}
	contract.Whole(t, reopen(t, o), all[0].m.ID, all[0].files)
}

// noLockStep: where nothing can be locked, a vault with a lock is not made.
func noLockStep(t *testing.T, o Options) {
	locked := o
	locked.Lock = Lock{Governance, 3 * 24 * time.Hour}
	if err := Create(t.Context(), locked); err == nil || colorfast.HintOf(err) == "" {
		t.Errorf("made a vault with a lock: %v", err)
	}
	if _, err := Open(t.Context(), o); colorfast.KindOf(err) != colorfast.NotFound {
		t.Errorf("there is a vault now: %v", err)
	}
}

// loseAPack deletes one pack from the storage.
func loseAPack(t *testing.T, v *Vault) {
	t.Helper()
	st := v.conn.BlobReader().(blob.Storage)
	packs, err := blob.ListAllBlobs(t.Context(), st, "p")
	if err != nil || len(packs) == 0 {
		t.Fatalf("%d packs, %v", len(packs), err)
	}
	for _, p := range packs {
		if err := st.DeleteBlob(t.Context(), p.BlobID); err != nil {
			t.Fatal(err)
		}
	}
}

// deleteStep takes a backup's manifest away, and the space comes back.
func deleteStep(t *testing.T, o Options) {
	if err := Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	v := reopen(t, o)
	keep, keepFiles := contract.Sample(1)
	gone, goneFiles := contract.Sample(2)
	if err := errors.Join(v.Put(t.Context(), keep, keepFiles, nil), v.Put(t.Context(), gone, goneFiles, nil)); err != nil {
		t.Fatal(err)
	}
	full := storedBytes(t, v)
	err := repo.WriteSession(t.Context(), v.conn, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.RepositoryWriter) error {
		return w.DeleteManifest(ctx, manifest.ID(gone.ID))
	})
	if err != nil {
		t.Fatal(err)
	}
	reclaim(t, v)
	if now := storedBytes(t, v); now > full-gone.StoredBytes/2 {
		t.Errorf("%d bytes are stored, %d before the deletion", now, full)
	}
	contract.Whole(t, reopen(t, o), keep.ID, keepFiles)
}

func storedBytes(t *testing.T, v *Vault) (n int64) {
	t.Helper()
	if err := v.conn.BlobReader().ListBlobs(t.Context(), "", func(m blob.Metadata) error {
		n += m.Length
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	longFiles = 16
	longFile  = 3 << 20
)

// longSample is a source of incompressible files that takes several packs. Before
// file number at is read, then is called.
func longSample(at int, then func()) (*colorfast.Manifest, fs.FS) {
	files := fstest.MapFS{}
	m := &colorfast.Manifest{}
	m.Consistency.FrozenAt = time.Now().UTC()
	for i := range uint64(longFiles) {
		b := make([]byte, longFile)
		randomBytes(1000+i, b)
		p := fmt.Sprintf("seg/%02d", i)
		files[p] = &fstest.MapFile{Data: b}
		m.FileList = append(m.FileList, colorfast.File{Path: p, Type: colorfast.Regular, Size: longFile})
	}
	m.Summarize()
	return m, &triggerFS{FS: files, name: fmt.Sprintf("seg/%02d", at), then: then}
}

// triggerFS does something when a file is opened, once.
type triggerFS struct {
	fs.FS
	name string
	then func()
	once sync.Once
}

// Open implements fs.FS.
func (f *triggerFS) Open(name string) (fs.File, error) {
	if name == f.name && f.then != nil {
		f.once.Do(f.then)
	}
	return f.FS.Open(name)
}

// sent counts what reaches a storage.
type sent struct {
	blob.Storage
	bytes atomic.Int64
}

func (s *sent) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	err := s.Storage.PutBlob(ctx, id, data, opts)
	if err == nil {
		s.bytes.Add(int64(data.Length()))
	}
	return err
}

// resumeStep breaks the network in the middle of a backup, for good; a second run
// sends only what has not arrived.
func resumeStep(t *testing.T, r *remote, faults *servers.Faults) {
	place := r.place(t)
	if err := Create(t.Context(), r.options(place)); err != nil {
		t.Fatal(err)
	}
	p := faults.Proxy(t, r.addr)
	o := r.through(p.Addr, place)
	o.indexAfter = time.Nanosecond
	var before, after sent
	o.wrap = func(st blob.Storage) blob.Storage { before.Storage = st; return &before }
	v, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	m, files := longSample(longFiles-1, func() { p.Enable(t, false) })
	err = v.Put(t.Context(), m, files, nil)
	wantKind(t, err, colorfast.Unreachable, "not sent again")
	if name := strings.SplitN(o.URL, "?", 2)[0]; err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error does not name %s in one line: %v", name, err)
	}
	_ = v.Close(t.Context()) // may not reach the storage
	direct := r.options(place)
	direct.wrap = func(st blob.Storage) blob.Storage { after.Storage = st; return &after }
	v = reopen(t, direct)
	if l, err := v.List(t.Context()); err != nil || len(l) != 0 {
		t.Fatalf("%d listed, %v", len(l), err)
	}
	m, files = longSample(0, nil)
	if err := v.Put(t.Context(), m, files, nil); err != nil {
		t.Fatal(err)
	}
	contract.Whole(t, v, m.ID, files)
	total := int64(longFiles * longFile)
	t.Logf("%d bytes of %d arrived, then %d were sent", before.bytes.Load(), total, after.bytes.Load())
	if before.bytes.Load() < total/4 || after.bytes.Load() > total-before.bytes.Load()+4<<20 {
		t.Errorf("sent again: %d bytes arrived at first, then %d of %d", before.bytes.Load(), after.bytes.Load(), total)
	}
}

// faultStep backs up over a network that is slow, cut, mute and cut short.
func faultStep(t *testing.T, r *remote, faults *servers.Faults) {
	place := r.place(t)
	if err := Create(t.Context(), r.options(place)); err != nil {
		t.Fatal(err)
	}
	judge := reopen(t, r.options(place))
	listed := 0
	for _, f := range []struct {
		name  string
		toxic servers.Toxic
		lasts time.Duration // 0: always
		fails bool
	}{
		{"slow", servers.Toxic{Type: "latency", Attributes: map[string]any{"latency": 60, "jitter": 30}}, 0, false},
		{"narrow", servers.Toxic{Type: "bandwidth", Upstream: true, Attributes: map[string]any{"rate": 3000}}, 0, false},
		{"cut for a moment", servers.Toxic{Type: "reset_peer", Attributes: map[string]any{"timeout": 0}}, 150 * time.Millisecond, false},
		{"cut short", servers.Toxic{Type: "limit_data", Upstream: true, Attributes: map[string]any{"bytes": 300_000}}, 300 * time.Millisecond, false},
		{"mute for a moment", servers.Toxic{Type: "timeout", Attributes: map[string]any{"timeout": 0}}, 500 * time.Millisecond, false},
		{"mute", servers.Toxic{Type: "timeout", Attributes: map[string]any{"timeout": 0}}, 0, true},
	} {
		p := faults.Proxy(t, r.addr)
		v, err := Open(t.Context(), r.through(p.Addr, place))
		if err != nil {
			t.Fatalf("%s: open: %v", f.name, err)
		}
		m, files := contract.Sample(uint64(10 + listed))
		then := func() {
			remove := p.Add(t, f.toxic)
			if f.lasts > 0 {
				time.AfterFunc(f.lasts, remove)
			}
		}
		begin := time.Now()
		err = v.Put(t.Context(), m, &triggerFS{FS: files, name: "seg/data_level0.bin", then: then}, nil)
		switch {
		case f.fails:
			wantKind(t, err, colorfast.Unreachable, "network")
			if err == nil || strings.Contains(err.Error(), "pending pack") || !strings.Contains(err.Error(), "tried") {
				t.Errorf("%s: not one clear error: %v", f.name, err)
			}
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("%s: gave up after %v", f.name, took)
			}
		case err != nil:
			t.Errorf("%s: %v", f.name, err)
		default:
			listed++
			contract.Whole(t, judge, m.ID, files)
		}
		t.Logf("%s: %v, %v", f.name, time.Since(begin).Round(time.Millisecond), err)
		_ = v.Close(t.Context()) // may not reach the storage
		if l, err := judge.List(t.Context()); err != nil || len(l) != listed {
			t.Fatalf("%s: %d listed, want %d, %v", f.name, len(l), listed, err)
		}
	}
}
