package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
)

// Looked is one thing about a vault's storage that Examine has looked at.
type Looked struct {
	Name    string            `json:"name"`
	Outcome colorfast.Outcome `json:"outcome"` // empty: could not look
	// Optional marks a protection that a vault can do without; then Failed means
	// that it is not there.
	Optional bool   `json:"optional,omitempty"`
	Detail   string `json:"detail"`           // what was seen, one line
	Remedy   string `json:"remedy,omitempty"` // the next step
}

// Examination is what Examine has found out. Figures are 0 where they are not
// known.
type Examination struct {
	Vault               string   `json:"vault"`
	Checks              []Looked `json:"checks"`
	LatencySeconds      float64  `json:"latency_seconds"` // of one small request
	WriteBytesPerSecond float64  `json:"write_bytes_per_second"`
	ReadBytesPerSecond  float64  `json:"read_bytes_per_second"`
}

// Failed reports whether something that a vault needs is not as it must be.
func (x *Examination) Failed() bool {
	for _, l := range x.Checks {
		if l.Outcome == colorfast.Failed && !l.Optional {
			return true
		}
	}
	return false
}

// probeBlob begins the names of what Examine writes. Where it cannot be deleted
// it is the whole name, so that there is never more than one.
const probeBlob = blob.ID("colorfast.probe")

// probeSize is enough to tell a bandwidth from a latency.
const probeSize = 1 << 20

// examiner is one Examine under way.
type examiner struct {
	o       Options
	p       *place
	st      blob.Storage // as colorfast uses it
	raw     blob.Storage // without what stands between
	x       *Examination
	id      blob.ID
	content []byte
	vault   *Vault // nil if it could not be opened
}

// Examine tries the storage of a vault, by a round trip and by what the storage
// tells of itself. There need not be a vault yet. What it writes it removes, as
// far as it may. Without a password it does not open the vault. An error, of kind
// Usage or Unsupported, means that the URL names no storage.
func Examine(ctx context.Context, o Options) (*Examination, error) {
	p, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	o.limiter = newLimiter(o.Limits)
	e := &examiner{o: o, p: p, x: &Examination{Vault: p.String(), Checks: []Looked{}}, content: make([]byte, probeSize)}
	_, _ = rand.Read(e.content) // never fails, it says
	e.transport()
	e.raw, err = o.openStorage(ctx)
	if !e.judge("reach", err, "the storage answers") {
		return e.x, ctx.Err()
	}
	e.st = &guard{Storage: o.wrapped(e.raw)}
	defer func() { _ = e.st.Close(context.WithoutCancel(ctx)) }() // only read and probed
	e.open(ctx)
	if e.vault != nil {
		defer func() { _ = e.vault.Close(ctx) }() // only read
	}
	for _, step := range []func(context.Context){e.roundTrip, e.clock, e.versions, e.locks, e.space} {
		if ctx.Err() == nil {
			step(ctx)
		}
	}
	return e.x, ctx.Err()
}

// add notes what was seen.
func (e *examiner) add(l Looked) { e.x.Checks = append(e.x.Checks, l) }

// judge notes that something worked, or how it failed, and reports the former.
// What could not be reached is unknown; anything else is a failure.
func (e *examiner) judge(name string, err error, good string) bool {
	l := Looked{Name: name, Outcome: colorfast.Passed, Detail: good}
	if err != nil {
		l.Outcome, l.Detail, l.Remedy = colorfast.Failed, err.Error(), colorfast.HintOf(err)
		if kindOf(err, colorfast.Internal) == colorfast.Denied {
			l.Remedy = fmt.Sprintf("give these credentials what \"colorfast vault check --policy full --vault %s\" prints", e.x.Vault)
		}
	}
	e.add(l)
	return err == nil
}

// transport looks at how bytes and credentials travel.
func (e *examiner) transport() {
	l := Looked{Name: "transport", Outcome: colorfast.Passed}
	switch e.p.scheme {
	case "file":
		l.Detail = "a folder of this host"
	case "sftp":
		l.Detail = "SSH, with a known host key"
	default:
		plain := e.p.scheme == "webdav"
		host := e.p.host
		if u, err := e.p.endpoint(""); err == nil && u != nil {
			plain, host = u.Scheme == "http", u.Host
		}
		switch {
		case !plain:
			l.Detail = "TLS, with a certificate that is checked"
		case isLoopback(host):
			l.Detail = "plain http, to this host only"
		default:
			l.Outcome, l.Detail, l.Remedy = colorfast.Failed, "plain http to "+host+": credentials can be read on the way", "use https"
		}
	}
	e.add(l)
}

// open opens the vault, if there is one and a password is given.
func (e *examiner) open(ctx context.Context) {
	l := Looked{Name: "password"}
	_, err := e.st.GetMetadata(ctx, formatBlob)
	switch {
	case errors.Is(err, blob.ErrBlobNotFound):
		l.Detail, l.Remedy = "there is no vault", noVaultHint(e.o.URL)
	case err != nil:
		e.judge("password", err, "")
		return
	case e.o.Password.IsZero():
		l.Detail, l.Remedy = "no password is given", "set COLORFAST_PASSWORD_FILE"
	default:
		v, err := Open(ctx, e.o)
		if e.judge("password", err, "it opens the vault") {
			e.vault = v
		}
		return
	}
	e.add(l)
}

// roundTrip writes, reads, lists, overwrites and deletes.
func (e *examiner) roundTrip(ctx context.Context) {
	_, err := blob.ListAllBlobs(ctx, e.st, probeBlob)
	if !e.judge("list", err, "names can be listed") {
		return
	}
	deletes := mayDelete(ctx, e.st)
	e.id = probeBlob
	if deletes {
		var r [6]byte
		_, _ = rand.Read(r[:]) // never fails, it says
		e.id += blob.ID("-" + hex.EncodeToString(r[:]))
	}
	start := time.Now()
	err = e.st.PutBlob(ctx, e.id, raw(e.content), blob.PutOptions{})
	e.x.WriteBytesPerSecond = rate(start)
	defer e.forget(context.WithoutCancel(ctx))
	if !e.judge("write", err, "a blob can be written") {
		return
	}
	var got bytesOut
	start = time.Now()
	err = e.st.GetBlob(ctx, e.id, 0, -1, &got)
	e.x.ReadBytesPerSecond = rate(start)
	if err == nil && !bytes.Equal(got.b, e.content) {
		err = colorfast.Errorf(colorfast.Corrupt, "it gives other bytes than were written").WithHint("use another storage, or find what changes them on the way")
	}
	e.judge("read", err, "what was written reads back, byte for byte")
	e.listed(ctx)
	e.exclusive(ctx)
	e.speed(ctx)
	e.public(ctx)
	e.delete(ctx, deletes)
}

func rate(since time.Time) float64 { return probeSize / max(time.Since(since).Seconds(), 1e-9) }

// listed looks whether a list has what was just written.
func (e *examiner) listed(ctx context.Context) {
	all, err := blob.ListAllBlobs(ctx, e.st, e.id)
	if err == nil && (len(all) != 1 || all[0].Length != probeSize) {
		err = colorfast.Errorf(colorfast.Corrupt, "a list does not have what was just written").
			WithHint("use a storage that lists what it has: backups could be missed, and garbage be taken for none")
	}
	e.judge("read-after-write", err, "a list has what was just written")
}

// exclusive looks whether a blob that is there is safe from a write that must
// only make a new one, and what a plain write does.
func (e *examiner) exclusive(ctx context.Context) {
	err := e.st.PutBlob(ctx, e.id, raw("colorfast"), blob.PutOptions{DoNotRecreate: true})
	switch {
	case errors.Is(err, blob.ErrBlobAlreadyExists):
		err = nil
	case err == nil:
		err = colorfast.Errorf(colorfast.Unsupported, "a write that must only make a new blob replaced one").
			WithHint("two \"colorfast init\" at the same time could spoil each other; make the vault from one host")
	}
	e.judge("exclusive write", err, "a blob that is there is not replaced by mistake")
	err = e.st.PutBlob(ctx, e.id, raw(e.content), blob.PutOptions{})
	if kindOf(err, colorfast.Internal) == colorfast.Denied {
		e.add(Looked{Name: "overwrite", Outcome: colorfast.Passed, Detail: "refused: these credentials cannot replace what is there"})
		return
	}
	e.judge("overwrite", err, "these credentials can replace what is there")
}

// speed takes the time of small requests.
func (e *examiner) speed(ctx context.Context) {
	const tries = 3
	start := time.Now()
	for range tries {
		if _, err := e.st.GetMetadata(ctx, e.id); err != nil {
			e.add(Looked{Name: "speed", Detail: err.Error()})
			return
		}
	}
	e.x.LatencySeconds = time.Since(start).Seconds() / tries
	e.add(Looked{Name: "speed", Outcome: colorfast.Passed, Detail: fmt.Sprintf("%.2f ms a request, %.1f MiB/s written, %.1f MiB/s read, with one connection and 1 MiB",
		e.x.LatencySeconds*1000, e.x.WriteBytesPerSecond/(1<<20), e.x.ReadBytesPerSecond/(1<<20))})
}

// delete removes what was written, or says that these credentials cannot.
func (e *examiner) delete(ctx context.Context, may bool) {
	if !may {
		e.add(Looked{Name: "delete", Outcome: colorfast.Passed,
			Detail: fmt.Sprintf("refused: these credentials can add but not delete; %q stays", e.id),
			Remedy: "maintain the vault from a host with other credentials: space is given back, and locks are extended, only there"})
		return
	}
	err := e.st.DeleteBlob(ctx, e.id)
	if err == nil {
		if _, err = e.st.GetMetadata(ctx, e.id); errors.Is(err, blob.ErrBlobNotFound) {
			err = nil
		} else if err == nil {
			err = colorfast.Errorf(colorfast.Corrupt, "what was deleted is still there").WithHint("use another storage: space would never be given back")
		}
	}
	e.judge("delete", err, "what was written can be deleted")
}

// forget removes what is left of the probes, with all versions.
func (e *examiner) forget(ctx context.Context) {
	if e.id == probeBlob {
		return // these credentials cannot
	}
	_ = e.st.DeleteBlob(ctx, e.id) // said already
	if d, ok := e.raw.(*diskStorage); ok && e.vault == nil {
		d.unfold(e.id)
	}
	if _, b, v := versionedOf(e.raw); v != nil {
		_ = v.versions(ctx, b.prefix+string(e.id), func(old version) error { return v.removeVersion(ctx, old) })    // a bucket
		_ = v.versions(ctx, b.prefix+string(nothing), func(old version) error { return v.removeVersion(ctx, old) }) // with a rule clears these itself
	}
}
