package vault

import (
	"context"
	"strings"

	"colorfast"

	"github.com/kopia/kopia/repo/blob"
)

// Credentials that may write but not delete are enough for backing up: who takes
// over the host cannot remove what is there. What a backup deletes itself are
// marks that say that somebody is at work; they are dead by their age alone, and
// the next maintenance by somebody who may delete removes them.

// sessionPrefix is what the names of Kopia's marks begin with; see
// BlobIDPrefixSession in repo/content/sessions.go, v0.22.3.
const sessionPrefix = "s"

// isMark reports whether a blob only says that somebody is at work.
func isMark(id blob.ID) bool {
	return strings.HasPrefix(string(id), sessionPrefix) || strings.HasPrefix(string(id), string(leasePrefix))
}

// mayStay returns nil for a mark that we may not delete, and else err.
func mayStay(id blob.ID, err error) error {
	if err != nil && isMark(id) && kindOf(err, colorfast.Internal) == colorfast.Denied {
		return nil
	}
	return err
}

// nothing is a blob that never is.
const nothing = blob.ID("colorfast.nothing")

// mayDelete reports whether the storage lets us delete, by deleting nothing. Only
// a clear refusal is a no.
func mayDelete(ctx context.Context, st blob.Storage) bool {
	return kindOf(st.DeleteBlob(ctx, nothing), colorfast.Internal) != colorfast.Denied
}
