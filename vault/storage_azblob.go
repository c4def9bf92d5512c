package vault

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"colorfast"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	azure "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/kopia/kopia/repo/blob"
)

// azureObjects keeps blobs in a container of Azure's Blob Storage.
//
// Kopia's own (repo/blob/azure, v0.22.3) is on the same client and is not used:
// it has no write that fails if the blob is there, sends no checksum, knows only
// hosts of the form account.domain, and no identity of the machine.
type azureObjects struct {
	container *container.Client
	link      *link
}

// openAzure returns the storage of an azblob URL.
func openAzure(p *place, env environment, pat patience) (*patient, error) {
	account := p.params["account"]
	if account == "" {
		account = env.get("AZURE_STORAGE_ACCOUNT")
	}
	if account == "" {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: its storage account is not known", p.short()).
			WithHint("add \"?account=…\", or set AZURE_STORAGE_ACCOUNT")
	}
	if strings.ContainsFunc(account, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9') }) {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: %q cannot be the name of a storage account", p.short(), account).
			WithHint("it has lower-case letters and digits only")
	}
	endpoint, err := p.endpoint("https://" + account + ".blob.core.windows.net")
	if err != nil {
		return nil, err
	}
	l, err := newLink(p, env, pat.stall)
	if err != nil {
		return nil, err
	}
	o := azcore.ClientOptions{
		Transport: l.client,
		Retry:     policy.RetryOptions{MaxRetries: -1}, // patient tries again
		Telemetry: policy.TelemetryOptions{Disabled: true},
		// The URL has been found to allow it.
		InsecureAllowCredentialWithHTTP: endpoint.Scheme == "http",
	}
	c, err := azureContainer(p, env, account, endpoint.JoinPath(p.host), o)
	if err != nil {
		return nil, err
	}
	return &patient{
		Storage: &bucket{objects: &azureObjects{container: c, link: l}, prefix: prefixOf(p)}, patience: pat, name: p.short(), clock: l.clock,
		access: "look at the credentials (" + passwordPlaces["azblob"] + "), and at what they may do: docs/storages.md has the role",
	}, nil
}

// azureContainer makes the client with the first credentials that there are: a
// signature, the account's key, a service principal, the identity of the workload
// or of the machine.
func azureContainer(p *place, env environment, account string, at *url.URL, o azcore.ClientOptions) (*container.Client, error) {
	bad := func(what string, err error) (*container.Client, error) {
		return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: %s cannot be used: %w", p.short(), what, bare(err)).WithHint("%s", passwordPlaces["azblob"])
	}
	sas, err := env.secret("AZURE_STORAGE_SAS_TOKEN")
	key, kerr := env.secret("AZURE_STORAGE_KEY")
	secret, serr := env.secret("AZURE_CLIENT_SECRET")
	if err := errors.Join(err, kerr, serr); err != nil {
		return nil, err
	}
	if !sas.IsZero() {
		signed := *at
		signed.RawQuery = strings.TrimPrefix(sas.text, "?")
		c, err := container.NewClientWithNoCredential(signed.String(), &container.ClientOptions{ClientOptions: o})
		if err != nil {
			return bad("AZURE_STORAGE_SAS_TOKEN", errors.New("it is no signature"))
		}
		return c, nil
	}
	if !key.IsZero() {
		shared, err := azure.NewSharedKeyCredential(account, key.text)
		if err != nil {
			return bad("AZURE_STORAGE_KEY", errors.New("it is no key"))
		}
		return container.NewClientWithSharedKeyCredential(at.String(), shared, &container.ClientOptions{ClientOptions: o})
	}
	tenant, client, token := env.get("AZURE_TENANT_ID"), env.get("AZURE_CLIENT_ID"), env.get("AZURE_FEDERATED_TOKEN_FILE")
	var id azcore.TokenCredential
	switch {
	case tenant != "" && client != "" && !secret.IsZero():
		id, err = azidentity.NewClientSecretCredential(tenant, client, secret.text, &azidentity.ClientSecretCredentialOptions{ClientOptions: o})
	case tenant != "" && client != "" && token != "":
		id, err = azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: o, TenantID: tenant, ClientID: client, TokenFilePath: token})
	default:
		m := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: o}
		if client != "" {
			m.ID = azidentity.ClientID(client)
		}
		id, err = azidentity.NewManagedIdentityCredential(m)
	}
	if err != nil {
		return bad("the identity", err)
	}
	return container.NewClient(at.String(), id, &container.ClientOptions{ClientOptions: o})
}

func (a *azureObjects) read(ctx context.Context, name string, offset, length int64) (body, error) {
	var o azure.DownloadStreamOptions
	if o.Range.Offset = offset; length > 0 {
		o.Range.Count = length
	}
	r, err := a.container.NewBlobClient(name).DownloadStream(ctx, &o)
	if err != nil {
		return nil, azureFault(err)
	}
	return r.Body, nil
}

func (a *azureObjects) stat(ctx context.Context, name string) (blob.Metadata, error) {
	r, err := a.container.NewBlobClient(name).GetProperties(ctx, nil)
	if err != nil {
		return blob.Metadata{}, azureFault(err)
	}
	return azureMetadata(name, r.ContentLength, r.LastModified)
}

func azureMetadata(name string, length *int64, changed *time.Time) (blob.Metadata, error) {
	if length == nil || changed == nil {
		return blob.Metadata{}, fmt.Errorf("the storage gives no size or time of %q", name)
	}
	return blob.Metadata{BlobID: blob.ID(name), Length: *length, Timestamp: *changed}, nil
}

// write sends a blob in one request, whose MD5 the service compares with what it
// got.
func (a *azureObjects) write(ctx context.Context, name string, data blob.Bytes, onlyNew bool) (time.Time, error) {
	return a.writeLocked(ctx, name, data, onlyNew, retention{})
}

// writeLocked implements locker.
func (a *azureObjects) writeLocked(ctx context.Context, name string, data blob.Bytes, onlyNew bool, lock retention) (time.Time, error) {
	all := whole(data)
	sum := md5.Sum(all)
	kind := contentType
	o := &blockblob.UploadOptions{TransactionalValidation: azure.TransferValidationTypeMD5(sum[:]), HTTPHeaders: &azure.HTTPHeaders{BlobContentType: &kind}}
	if onlyNew {
		any := azcore.ETagAny
		o.AccessConditions = &azure.AccessConditions{ModifiedAccessConditions: &azure.ModifiedAccessConditions{IfNoneMatch: &any}}
	}
	if lock.mode != "" {
		mode, until := azureModes[lock.mode], lock.until.UTC()
		o.ImmutabilityPolicyMode, o.ImmutabilityPolicyExpiryTime = &mode, &until
	}
	content := data.Reader()
	defer func() { _ = content.Close() }()
	r, err := a.container.NewBlockBlobClient(name).Upload(ctx, content, o)
	if err != nil {
		return time.Time{}, azureFault(err)
	}
	if r.LastModified == nil {
		return time.Time{}, nil
	}
	return *r.LastModified, nil
}

func (a *azureObjects) list(ctx context.Context, prefix string, found func(blob.Metadata) error) error {
	pages := a.container.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix})
	for pages.More() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return azureFault(err)
		}
		for _, i := range page.Segment.BlobItems {
			if i.Name == nil || i.Properties == nil {
				continue
			}
			m, err := azureMetadata(*i.Name, i.Properties.ContentLength, i.Properties.LastModified)
			if err == nil {
				err = found(m)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *azureObjects) close() { a.link.close() }

// azureFault classes an error of the client. Its text, of many lines, is not
// passed on.
func azureFault(err error) error {
	if err == nil {
		return nil
	}
	var auth *azidentity.AuthenticationFailedError
	if errors.As(err, &auth) {
		return &fault{class: refused, err: errors.New("no token is to be had for this identity")}
	}
	var r *azcore.ResponseError
	if !errors.As(err, &r) {
		return bare(err)
	}
	f := &fault{class: byStatus(r.StatusCode), err: fmt.Errorf("the storage answers %d %s", r.StatusCode, r.ErrorCode)}
	if r.RawResponse != nil {
		f.after = retryAfter(r.RawResponse.Header)
	}
	switch code := bloberror.Code(r.ErrorCode); {
	case code == bloberror.ContainerNotFound:
		f.class, f.hint = absent, "make the container first, or look at the URL"
	case code == bloberror.ContainerBeingDeleted, code == bloberror.ContainerDisabled:
		f.class = absent
	case code == bloberror.BlobAlreadyExists, code == bloberror.ConditionNotMet:
		return blob.ErrBlobAlreadyExists
	case code == bloberror.InvalidRange, r.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return blob.ErrInvalidRange
	case code == bloberror.BlobNotFound, r.StatusCode == http.StatusNotFound:
		return blob.ErrBlobNotFound
	case code == bloberror.BlobImmutableDueToPolicy, code == bloberror.BlobArchived:
		f.class = refused
	case code == bloberror.MD5Mismatch:
		f.class = transient // hurt on the way
	}
	return f
}
