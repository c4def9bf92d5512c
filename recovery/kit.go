// Package recovery is for the day on which nothing is left but the vault and a sheet
// of paper: it writes that sheet, the recovery kit, reads what is copied from it, and
// judges whether the key of a vault would be lost with a host or a disk.
//
// It only thinks: facts come in, text comes out. What a kit says of the password is
// where it is, and the password itself only where somebody asked for that.
//
// Start reading at Kit.Complete and Judge.
package recovery

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kballard/go-shellquote"

	"colorfast"
)

// Kit is what a person needs to get at the backups on a bare machine. Complete
// fills in what follows from the rest.
type Kit struct {
	Vault       string                `json:"vault"` // URL, without secrets
	Fingerprint colorfast.Fingerprint `json:"fingerprint"`
	Tool        string                `json:"tool"`
	MadeAt      time.Time             `json:"made_at"`
	MadeOn      string                `json:"made_on"`            // host
	KeySource   string                `json:"key_source"`         // where that host takes the password from
	Copies      []Copy                `json:"copies"`             // of the password, as far as somebody said, newest first
	Backups     []colorfast.Backup    `json:"backups"`            // the newest of each source
	Password    string                `json:"password,omitempty"` // "" unless somebody wants it on paper
	Steps       []Step                `json:"steps"`
	Code        string                `json:"code"` // what the QR code says
}

// Copy is a copy of the password that was proven to open the vault.
type Copy struct {
	Place      string    `json:"place"` // "" if nobody said
	VerifiedAt time.Time `json:"verified_at"`
	By         string    `json:"by"`
}

// Step is one thing to do, with the commands for it.
type Step struct {
	Text     string   `json:"text"`
	Commands []string `json:"commands,omitempty"`
}

// mostBackups is how many sources a kit names, so that it stays one page.
const mostBackups = 4

// Complete orders and shortens the lists, and adds the steps and the code.
func (k *Kit) Complete() {
	k.Vault = SafeURL(k.Vault)
	slices.SortStableFunc(k.Backups, func(a, b colorfast.Backup) int { return b.RestorePoint.Compare(a.RestorePoint) })
	seen := map[colorfast.Source]bool{}
	k.Backups = slices.DeleteFunc(k.Backups, func(b colorfast.Backup) bool {
		again := seen[b.Source]
		seen[b.Source] = true
		return again
	})
	k.Backups = k.Backups[:min(len(k.Backups), mostBackups)]
	slices.SortStableFunc(k.Copies, func(a, b Copy) int { return b.VerifiedAt.Compare(a.VerifiedAt) })
	places := map[string]bool{}
	k.Copies = slices.DeleteFunc(k.Copies, func(c Copy) bool {
		again := places[c.Place]
		places[c.Place] = true
		return again
	})
	k.Copies = k.Copies[:min(len(k.Copies), mostBackups)]
	k.Code = Code{Vault: k.Vault, Fingerprint: k.Fingerprint, Password: k.Password}.String()
	k.Steps = k.steps()
}

func (k *Kit) steps() []Step {
	reach := "Take a Linux machine that reaches the vault, and give it the permission to read there."
	if dir, ok := strings.CutPrefix(k.Vault, "file://"); ok {
		reach = "Take a Linux machine and attach the disk with the vault, so that it lies at " + dir + ". If that cannot be, write the new path in step 3."
	}
	source, target := "", "/srv/chroma"
	if len(k.Backups) > 0 {
		source = " " + shellquote.Join("--source", k.Backups[0].Source.String())
		target = k.Backups[0].Source.Path
	}
	return []Step{
		{Text: reach},
		{Text: "Install colorfast: the version of this sheet, or a later one.", Commands: []string{"colorfast version   # made by " + k.Tool}},
		{Text: "Name the vault, and see whether it is this one. You are asked for the password.", Commands: []string{
			"export COLORFAST_VAULT=" + shellquote.Join(k.Vault),
			"colorfast recovery verify --fingerprint " + string(k.Fingerprint),
		}},
		{Text: "Write the password into a file that only you can read: one line, then Enter and Ctrl-D.", Commands: []string{
			`(umask 077; cat > "$HOME/colorfast.key")`,
			`export COLORFAST_PASSWORD_FILE="$HOME/colorfast.key"`,
		}},
		{Text: "Choose a backup; they are listed newest first.", Commands: []string{"colorfast list"}},
		{Text: "Bring it back. It is proven record by record before it gets its name.", Commands: []string{
			"colorfast restore latest" + source + " " + shellquote.Join("--to", target),
		}},
		{Text: "Start Chroma on " + target + ", look at your collections, and remove the file with the password."},
	}
}

// secretWords make a parameter of a URL one that is not shown.
var secretWords = []string{"key", "secret", "token", "password", "sig", "credential"}

// SafeURL returns a vault's URL without what may be secret in it: the password of
// a user, and parameters whose names say so. One that cannot be parsed is not
// shown at all.
func SafeURL(vault string) string {
	u, err := url.Parse(vault)
	if err != nil {
		return "(a URL that cannot be parsed)"
	}
	if u.Scheme == "" || u.Scheme == "file" {
		return vault
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	q := u.Query()
	for name := range q {
		if slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(strings.ToLower(name), w) }) {
			q.Set(name, "REMOVED")
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}
