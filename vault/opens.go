package vault

import (
	"context"
	"errors"
	"time"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/format"
)

// ErrWrongPassword is in the errors of kind Denied that say just that; others are
// about permissions.
var ErrWrongPassword = errors.New("wrong password")

// diagnose says why the repository did not open. To Kopia a damaged format and
// a wrong password look the same; the copy of the format tells them apart.
func diagnose(ctx context.Context, st blob.Storage, o Options, err error) error {
	if !errors.Is(err, format.ErrInvalidPassword) {
		return fail(err, colorfast.Corrupt, "open vault %q", o.URL)
	}
	var now, then bytesOut
	e1, e2 := st.GetBlob(ctx, formatBlob, 0, -1, &now), st.GetBlob(ctx, formatCopyBlob, 0, -1, &then)
	wrong := colorfast.Errorf(colorfast.Denied, "open vault %q: %w", o.URL, ErrWrongPassword)
	var mark bytesOut
	if st.GetBlob(ctx, rekeyBlob, 0, -1, &mark) == nil {
		return wrong.WithHint("a change of its password is under way or was interrupted: use the other one of the two, and finish it with \"colorfast vault password\"")
	}
	if e1 == nil && e2 == nil && string(now.b) != string(then.b) && opens(then.b, nil, o.Password) {
		return damaged(o.URL, "its file "+formatBlob+" is damaged, or the password was changed since")
	}
	return wrong
}

// opens reports whether the password opens these bytes of a format, and of the
// settings for blobs if they are not nil.
func opens(formatBytes, config []byte, password Secret) bool {
	_, err := manage(&keyBlobs{format: formatBytes, config: config}, password)
	return err == nil
}

func manage(b *keyBlobs, password Secret) (*format.Manager, error) {
	return format.NewManager(context.Background(), b, "", 0, password.text, time.Now)
}

// keyBlobs is a storage in memory of the two blobs which are encrypted under the
// password.
type keyBlobs struct {
	blob.Storage
	format, config []byte          // nil means that there is none
	opts           blob.PutOptions // of what was written
}

// GetBlob implements blob.Storage.
func (k *keyBlobs) GetBlob(_ context.Context, id blob.ID, _, _ int64, out blob.OutputBuffer) error {
	b := k.format
	if id == configBlob {
		b = k.config
	}
	if b == nil {
		return blob.ErrBlobNotFound
	}
	_, err := out.Write(b)
	return err
}

// PutBlob implements blob.Storage.
func (k *keyBlobs) PutBlob(_ context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	var b bytesOut
	if _, err := data.WriteTo(&b); err != nil {
		return err
	}
	switch id {
	case formatBlob:
		k.format = b.b
	case configBlob:
		k.config = b.b
	default:
		return blob.ErrUnsupportedPutBlobOption
	}
	k.opts = opts
	return nil
}
