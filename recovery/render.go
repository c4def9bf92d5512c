package recovery

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"colorfast"
)

const day = 24 * time.Hour

// envelope is what a kit says that carries the password.
const envelope = "THIS SHEET CARRIES THE PASSWORD. Whoever reads it can read every backup. Seal it in an envelope, put it where you keep what must not be lost, and keep no file of it."

// Text writes the kit as plain text, for a printer with fixed letters. Errors are
// those of w, or Unsupported if the code is too long.
func (k *Kit) Text(w io.Writer) error {
	rows, err := modules(k.Code)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "COLORFAST RECOVERY KIT\n\n")
	if k.Password != "" {
		fmt.Fprintf(&b, "%s\n\n", envelope)
	}
	for _, r := range k.rows() {
		fmt.Fprintf(&b, "%-12s  %s\n", r.Name, r.Value)
	}
	b.WriteString("\nTO GET THE DATA BACK ON A BARE MACHINE\n\n")
	for i, s := range k.Steps {
		fmt.Fprintf(&b, "%d. %s\n", i+1, s.Text)
		for _, c := range s.Commands {
			fmt.Fprintf(&b, "     %s\n", c)
		}
	}
	fmt.Fprintf(&b, "\n%s\n", k.what())
	b.WriteString(halves(rows))
	_, err = io.WriteString(w, b.String())
	return err
}

// what says what is in the QR code.
func (k *Kit) what() string {
	if k.Password != "" {
		return "The code holds the vault's URL, the fingerprint and the password."
	}
	return "The code holds the vault's URL and the fingerprint, not the password."
}

// row is one fact on the sheet.
type row struct{ Name, Value string }

func (k *Kit) rows() []row {
	out := []row{
		{"vault", k.Vault},
		{"fingerprint", string(k.Fingerprint)},
	}
	if k.Password != "" {
		out = append(out, row{"password", k.Password})
	} else {
		out = append(out, row{"password", "not on this sheet; on " + k.MadeOn + " it is " + k.KeySource})
	}
	for _, c := range k.Copies {
		place := c.Place
		if place == "" {
			place = "in a place that nobody named"
		}
		out = append(out, row{"copy", fmt.Sprintf("%s (opened the vault on %s, says %s)", place, date(c.VerifiedAt), c.By)})
	}
	if len(k.Copies) == 0 {
		out = append(out, row{"copy", "none is known; write here where one is: ________________________"})
	}
	for i := range k.Backups {
		b := &k.Backups[i]
		state := "verified"
		if b.Verified != colorfast.Passed {
			state = "verification " + b.Verified.String()
		}
		out = append(out, row{"backup", fmt.Sprintf("%s of %s, %s, %d records, %s", b.ID.Short(), b.Source, b.RestorePoint.UTC().Format("2006-01-02 15:04 UTC"), b.Records, state)})
	}
	if len(k.Backups) == 0 {
		out = append(out, row{"backup", "none yet"})
	}
	return append(out, row{"made", fmt.Sprintf("%s on %s by %s", date(k.MadeAt), k.MadeOn, k.Tool)})
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02") }

//go:embed kit.html
var page string

// HTML writes the kit as one page that prints on one sheet. Nothing in it is loaded
// from elsewhere. Errors are those of w, or Unsupported if the code is too long.
func (k *Kit) HTML(w io.Writer) error {
	grid, err := modules(k.Code)
	if err != nil {
		return err
	}
	var path strings.Builder
	for y := range grid {
		for x, d := range grid[y] {
			if d {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x, y)
			}
		}
	}
	t, err := template.New("kit").Parse(page)
	if err != nil {
		return err
	}
	warning := ""
	if k.Password != "" {
		warning = envelope
	}
	return t.Execute(w, map[string]any{
		"Rows": k.rows(), "Steps": k.Steps, "Warning": warning, "What": k.what(), "Path": path.String(), "Side": len(grid),
	})
}
