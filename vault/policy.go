package vault

import (
	"encoding/json"
	"fmt"
	"strings"

	"colorfast"
)

// Use is what credentials are for.
type Use string

// The uses.
const (
	Full       Use = "full"        // backups, restores, maintenance
	AppendOnly Use = "append-only" // backups and restores, but no deletion: for hosts that may be taken over
)

// Policy returns the least that credentials need for a vault at a URL, to paste
// into the storage's own tools. Nothing is asked over the network. Errors: Usage,
// Unsupported.
func Policy(vaultURL string, use Use) (string, error) {
	p, err := parseURL(vaultURL)
	if err != nil {
		return "", err
	}
	if use != Full && use != AppendOnly {
		return "", colorfast.Errorf(colorfast.Usage, "print a policy: %q is no use of credentials", use).WithHint("say %s or %s", Full, AppendOnly)
	}
	switch p.scheme {
	case "s3":
		return s3Policy(p, use)
	case "gs":
		return gcsPolicy(p, use), nil
	case "azblob":
		return azurePolicy(p, use), nil
	case "sftp":
		return sftpPolicy(p, use), nil
	}
	if use == AppendOnly {
		return "", colorfast.Errorf(colorfast.Unsupported, "print a policy for %q: whoever may write there may also delete", p.short()).
			WithHint("keep a copy in a bucket with versioning and object lock")
	}
	if p.scheme == "file" {
		return fmt.Sprintf("# A folder for the user that runs colorfast, and nobody else.\ninstall -d -m 700 %s\n", p.path), nil
	}
	return fmt.Sprintf("# A user of the WebDAV server that may GET, HEAD, PUT, MOVE, DELETE, MKCOL and\n# PROPFIND below %s, and nowhere else.\n", p.path), nil
}

// statement is one of a policy of IAM.
type statement struct {
	Sid       string         `json:"Sid"`
	Effect    string         `json:"Effect"`
	Action    []string       `json:"Action"`
	Resource  []string       `json:"Resource"`
	Condition map[string]any `json:"Condition,omitempty"`
}

// s3Policy returns a policy of IAM. Without a path in the URL the whole bucket is
// the vault's.
func s3Policy(p *place, use Use) (string, error) {
	bucket := "arn:aws:s3:::" + p.host
	objects := bucket + "/" + prefixOf(p) + "*"
	list := statement{Sid: "List", Effect: "Allow", Action: []string{"s3:ListBucket", "s3:ListBucketVersions"}, Resource: []string{bucket}}
	if p.path != "" {
		list.Condition = map[string]any{"StringLike": map[string]any{"s3:prefix": []string{prefixOf(p) + "*"}}}
	}
	read := statement{Sid: "Blobs", Effect: "Allow", Resource: []string{objects}, Action: []string{
		"s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention", "s3:PutObject", "s3:PutObjectRetention",
	}}
	if use == Full {
		read.Action = append(read.Action, "s3:DeleteObject")
	}
	all := []statement{
		{Sid: "Settings", Effect: "Allow", Resource: []string{bucket}, Action: []string{"s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration"}},
		list, read,
	}
	if key := p.params["sse_kms_key"]; key != "" {
		all = append(all, statement{Sid: "Key", Effect: "Allow", Action: []string{"kms:Decrypt", "kms:GenerateDataKey"}, Resource: []string{key}})
	}
	b, err := json.MarshalIndent(map[string]any{"Version": "2012-10-17", "Statement": all}, "", "  ")
	if err != nil {
		return "", colorfast.Errorf(colorfast.Internal, "print a policy: %w", err)
	}
	return string(b) + "\n", nil
}

func gcsPolicy(p *place, use Use) string {
	roles := []string{"roles/storage.objectViewer", "roles/storage.objectCreator"}
	note := "# These may add objects, and neither replace nor delete any."
	if use == Full {
		roles, note = []string{"roles/storage.objectUser"}, "# These may read, add, replace and delete objects."
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n# legacyBucketReader is for \"vault check\" and --as-of, which look at the bucket itself.\n", note)
	condition := "None"
	if p.path != "" {
		condition = fmt.Sprintf("'expression=resource.type == \"storage.googleapis.com/Bucket\" || resource.name.startsWith(\"projects/_/buckets/%s/objects/%s\"),title=colorfast'", p.host, prefixOf(p))
	}
	for _, role := range append(roles, "roles/storage.legacyBucketReader") {
		fmt.Fprintf(&b, "gcloud storage buckets add-iam-policy-binding gs://%s --member=serviceAccount:ACCOUNT --role=%s --condition=%s\n", p.host, role, condition)
	}
	return b.String()
}

func azurePolicy(p *place, use Use) string {
	letters, actions := "rcl", []string{"read", "add/action"}
	note := "# These may add blobs, and neither replace nor delete any."
	if use == Full {
		letters, actions = "rcwdl", []string{"read", "add/action", "write", "delete"}
		note = "# These may read, add, replace and delete blobs."
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n# Either a signature (AZURE_STORAGE_SAS_TOKEN):\n", note)
	fmt.Fprintf(&b, "az storage container generate-sas --account-name %s --name %s --permissions %s --expiry YYYY-MM-DD --https-only\n", or(p.params["account"], "ACCOUNT"), p.host, letters)
	b.WriteString("# with i (immutability policies) among the permissions if the vault has a lock,\n")
	b.WriteString("# or a role of your own for an identity, with these data actions:\n")
	for _, a := range actions {
		fmt.Fprintf(&b, "#   Microsoft.Storage/storageAccounts/blobServices/containers/blobs/%s\n", a)
	}
	return b.String()
}

func sftpPolicy(p *place, use Use) string {
	user := or(p.user, "USER")
	var b strings.Builder
	if use == AppendOnly {
		b.WriteString(`# OpenSSH can refuse to delete, but not to replace: colorfast gives files their names
# by renaming, and whoever may rename may replace. So this alone does not keep a host
# that was taken over from spoiling backups; let the server also take snapshots of its
# file system, where that user cannot reach them.
`)
	}
	denied := ""
	if use == AppendOnly {
		denied = " -P remove,rmdir,symlink,hardlink"
	}
	fmt.Fprintf(&b, `# sshd_config of the server. The folder %s is %s's; all above it are root's.
Match User %s
    ForceCommand internal-sftp%s
    AllowTcpForwarding no
    X11Forwarding no
    PermitTTY no
# ~%s/.ssh/authorized_keys:
restrict,command="internal-sftp%s" ssh-ed25519 PUBLIC-KEY colorfast
`, p.path, user, user, denied, user, denied)
	return b.String()
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
