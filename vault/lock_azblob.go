package vault

import (
	"context"
	"time"

	"colorfast"

	azure "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
)

// azureModes are Azure's words: a policy that is not locked can be shortened or
// taken away by whoever may set policies.
var azureModes = map[LockMode]azure.ImmutabilityPolicySetting{
	Governance: azure.ImmutabilityPolicySettingUnlocked,
	Compliance: azure.ImmutabilityPolicySettingLocked,
}

// takesLocks implements locker.
func (a *azureObjects) takesLocks(ctx context.Context) error {
	p, err := a.container.GetProperties(ctx, nil)
	if err != nil {
		return azureFault(err)
	}
	if p.IsImmutableStorageWithVersioningEnabled == nil || !*p.IsImmutableStorageWithVersioningEnabled {
		return colorfast.Errorf(colorfast.Unsupported, "the container was made without version-level immutability").
			WithHint("turn versioning on for the account, make a container with version-level immutability support, or leave --lock out")
	}
	return nil
}

// lock implements locker.
func (a *azureObjects) lock(ctx context.Context, name string, r retention) error {
	mode := azureModes[r.mode]
	_, err := a.container.NewBlobClient(name).SetImmutabilityPolicy(ctx, r.until.UTC(), &azure.SetImmutabilityPolicyOptions{Mode: &mode})
	return azureFault(err)
}

// locked implements locker.
func (a *azureObjects) locked(ctx context.Context, name string) (retention, error) {
	p, err := a.container.NewBlobClient(name).GetProperties(ctx, nil)
	if err != nil || p.ImmutabilityPolicyExpiresOn == nil || p.ImmutabilityPolicyMode == nil {
		return retention{}, azureFault(err)
	}
	mode := Governance
	if *p.ImmutabilityPolicyMode == azure.ImmutabilityPolicyModeLocked {
		mode = Compliance
	}
	return retention{mode, *p.ImmutabilityPolicyExpiresOn}, nil
}

// remove deletes an object. Azure refuses to delete one that is locked, also where
// it keeps versions; so an empty version is put over it and deleted, and the locked
// one stays as an old version until its time is over.
func (a *azureObjects) remove(ctx context.Context, name string) error {
	b := a.container.NewBlobClient(name)
	_, err := b.Delete(ctx, nil)
	if !bloberror.HasCode(err, bloberror.BlobImmutableDueToPolicy) {
		return azureFault(err)
	}
	// The container's own policy, if it has one, would hold the empty version too.
	if _, err := a.writeLocked(ctx, name, raw{}, false, retention{Governance, time.Now().Add(time.Minute)}); err != nil {
		return err
	}
	if _, err := b.DeleteImmutabilityPolicy(ctx, nil); err != nil {
		return azureFault(err)
	}
	_, err = b.Delete(ctx, nil)
	return azureFault(err)
}

var _ = []locker{(*s3Objects)(nil), (*azureObjects)(nil)}
