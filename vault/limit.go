package vault

import (
	"context"
	"io"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/throttling"
)

// Limits bound what passes between colorfast and the storage of one open vault.
// They are for the contents of blobs, of all goroutines together; requests that
// carry none, such as listing and deleting, are not counted.
//
// They hold over any time: in t seconds at most t+¼ times the limit passes, and
// for each blob under way one portion (64 KiB, or 1/16 second if that is less)
// and what the storage reads ahead.
type Limits struct {
	Upload   int64 // bytes per second; 0 or less means no limit
	Download int64 // the same
}

const (
	// saved is for how long unused bandwidth is kept for later. Kopia's own
	// throttling, set in its configuration file, saves a minute's. It counts a
	// blob as a whole and then moves it at full speed, and waits for 20 MB before
	// it reads one of unknown length (repo/open.go and throttling_storage.go in
	// repo/blob/throttling, v0.22.3). So only its buckets are used, in portions.
	saved = time.Second / 4

	largestPortion = 64 << 10 // bytes that pass at once
	portions       = 16       // a second, where the limit is small
)

// limiter enforces Limits on all connections of a vault.
type limiter struct {
	limits  Limits
	buckets throttling.Throttler
}

// newLimiter returns nil if there is no limit. Its buckets are empty, so that
// the beginning is no faster than the rest.
func newLimiter(l Limits) *limiter {
	l = Limits{Upload: max(l.Upload, 0), Download: max(l.Download, 0)}
	b, err := throttling.NewThrottler(throttling.Limits{
		UploadBytesPerSecond: float64(l.Upload), DownloadBytesPerSecond: float64(l.Download),
	}, saved, 0)
	if err != nil || l == (Limits{}) {
		return nil // err is about limits below 0
	}
	return &limiter{limits: l, buckets: b}
}

// newFlow returns the flow of an operation under ctx. That it waits is not worth
// a line in the log.
func newFlow(ctx context.Context, limit int64, take func(context.Context, int64)) *flow {
	return &flow{ctx: withLog(ctx, nil), portion: int(max(1, min(limit/portions, largestPortion))), take: take}
}

// flow is the content of one blob on its way.
type flow struct {
	ctx     context.Context
	portion int
	take    func(context.Context, int64) // of a bucket; ends with the context, and does not say so
}

// wait returns when n bytes may pass, or promptly with the end of the context.
func (f *flow) wait(n int) error {
	f.take(f.ctx, int64(n))
	return f.ctx.Err()
}

// write hands p to w as the limit allows.
func (f *flow) write(w io.Writer, p []byte) (done int, err error) {
	for done < len(p) {
		part := p[done:min(done+f.portion, len(p))]
		if err := f.wait(len(part)); err != nil {
			return done, err
		}
		n, err := w.Write(part)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// limited is a storage under limits.
type limited struct {
	blob.Storage
	limiter *limiter
}

// GetBlob implements blob.Storage.
func (l *limited) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if limit := l.limiter.limits.Download; limit > 0 {
		out = &limitedOut{out, newFlow(ctx, limit, l.limiter.buckets.BeforeDownload)}
	}
	return l.Storage.GetBlob(ctx, id, offset, length, out)
}

// PutBlob implements blob.Storage.
func (l *limited) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if limit := l.limiter.limits.Upload; limit > 0 {
		data = &limitedBytes{data, newFlow(ctx, limit, l.limiter.buckets.BeforeUpload)}
	}
	return l.Storage.PutBlob(ctx, id, data, opts)
}

// limitedOut takes what a storage reads, and makes it wait.
type limitedOut struct {
	blob.OutputBuffer
	flow *flow
}

// Write implements io.Writer.
func (o *limitedOut) Write(p []byte) (int, error) { return o.flow.write(o.OutputBuffer, p) }

// limitedBytes are bytes that a storage gets at the speed of the limit. What it
// reads twice counts twice, because it may have been sent twice.
type limitedBytes struct {
	blob.Bytes
	flow *flow
}

// WriteTo implements io.WriterTo.
func (b *limitedBytes) WriteTo(w io.Writer) (int64, error) {
	return b.Bytes.WriteTo(limitedWriter{w, b.flow})
}

// Reader implements blob.Bytes.
func (b *limitedBytes) Reader() io.ReadSeekCloser { return &limitedReader{b.Bytes.Reader(), b.flow} }

type limitedWriter struct {
	w    io.Writer
	flow *flow
}

// Write implements io.Writer.
func (w limitedWriter) Write(p []byte) (int, error) { return w.flow.write(w.w, p) }

type limitedReader struct {
	io.ReadSeekCloser
	flow *flow
}

// Read implements io.Reader. It reads first, so that the end of the bytes costs
// nothing.
func (r *limitedReader) Read(p []byte) (int, error) {
	n, err := r.ReadSeekCloser.Read(p[:min(len(p), r.flow.portion)])
	if n > 0 {
		if err := r.flow.wait(n); err != nil {
			return 0, err
		}
	}
	return n, err
}
