package recovery

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"image"
	"image/color"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kballard/go-shellquote"
	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"colorfast"
)

var made = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

const secret = "Z8 +&=%/ü\"' secret"

// sample is a kit of a vault with a hostile name.
func sample(password string) *Kit {
	backup := func(id, path string, age time.Duration) colorfast.Backup {
		return colorfast.Backup{ID: colorfast.BackupID(id), Source: colorfast.Source{Host: "vm", Path: path},
			RestorePoint: made.Add(-age), Records: 49800, Verified: colorfast.Passed}
	}
	k := &Kit{
		Vault:       "file:///mnt/it's a <b>vault</b>",
		Fingerprint: colorfast.NewFingerprint([8]byte{1, 2, 3, 4, 5, 6, 7, 8}, [8]byte{0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8}),
		Tool:        "colorfast 0.1.0", MadeAt: made, MadeOn: "vm", KeySource: "in the file \"/etc/colorfast.key\", which COLORFAST_PASSWORD_FILE names",
		Copies: []Copy{{"safe", made.Add(-9 * day), "ada"}, {"", made.Add(-5 * day), "bob"}, {"safe", made.Add(-2 * day), "eve"}},
		Backups: []colorfast.Backup{
			backup("aaaaaaaaaaaa", "/srv/old chroma", 3*day), backup("bbbbbbbbbbbb", "/srv/new chroma", day), backup("cccccccccccc", "/srv/new chroma", 2*day),
		},
		Password: password,
	}
	k.Complete()
	return k
}

// drawn renders a kit in both ways.
func drawn(t *testing.T, k *Kit) (text, html string) {
	t.Helper()
	var b, h bytes.Buffer
	if err := k.Text(&b); err != nil {
		t.Fatal(err)
	}
	if err := k.HTML(&h); err != nil {
		t.Fatal(err)
	}
	return b.String(), h.String()
}

func TestKit(t *testing.T) {
	k := sample("")
	if len(k.Backups) != 2 || k.Backups[0].ID != "bbbbbbbbbbbb" {
		t.Errorf("backups: %+v", k.Backups)
	}
	if len(k.Copies) != 2 || k.Copies[0].By != "eve" || k.Copies[1].By != "bob" {
		t.Errorf("copies: %+v", k.Copies)
	}
	text, html := drawn(t, k)
	t.Log("\n" + text)
	for _, want := range []string{
		k.Vault, string(k.Fingerprint), "colorfast restore latest --source 'vm:/srv/new chroma' --to '/srv/new chroma'",
		"not on this sheet", "safe (opened the vault on 2026-11-24, says eve)", "in a place that nobody named", "bbbbbbbb of vm:/srv/new chroma",
		"2026-11-26 on vm by colorfast 0.1.0", "colorfast recovery verify --fingerprint 0102-0304-0506-0708-f1f2-f3f4-f5f6-f7f8",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q", want)
		}
	}
	if lines := strings.Count(text, "\n"); lines > 75 {
		t.Errorf("%d lines are no page", lines)
	}
	if strings.Contains(html, "<b>vault") || strings.Contains(html, "ZgotmplZ") {
		t.Error("the page does not escape what it shows")
	}
	for _, outside := range []string{"http:", "https:", "src=", "url(", "@import", "<script"} {
		if strings.Contains(html, outside) {
			t.Errorf("the page refers to something outside: %s", outside)
		}
	}
	wellFormed(t, html)
}

// wellFormed demands that every element of the page is closed.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta"}, xml.HTMLEntity
	depth, elements := 0, 0
	for {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch tok.(type) {
		case xml.StartElement:
			depth++
			elements++
		case xml.EndElement:
			depth--
		}
	}
	if depth != 0 || elements < 40 {
		t.Errorf("%d elements, %d not closed", elements, depth)
	}
}

func TestCommandsAreForAShell(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell; install one")
	}
	k := sample("")
	n := 0
	for _, s := range k.Steps {
		for _, c := range s.Commands {
			n++
			if out, err := exec.Command(sh, "-n", "-c", c).CombinedOutput(); err != nil {
				t.Errorf("%q: %v, %s", c, err, out)
			}
		}
	}
	if n < 6 {
		t.Errorf("only %d commands", n)
	}
	words, err := shellquote.Split(k.Steps[2].Commands[0])
	if err != nil || len(words) != 2 || words[1] != "COLORFAST_VAULT="+k.Vault {
		t.Errorf("%q, %v", words, err)
	}
}

func TestPasswordOnlyWhenAsked(t *testing.T) {
	for _, with := range []bool{false, true} {
		password := ""
		if with {
			password = secret
		}
		k := sample(password)
		text, html := drawn(t, k)
		js, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, secret) != with || strings.Contains(html, "Z8 ") != with || strings.Contains(string(js), `"password"`) != with {
			t.Errorf("with %v: the password is on the wrong sheet", with)
		}
		if strings.Contains(text, "THIS SHEET CARRIES THE PASSWORD") != with || strings.Contains(html, "THIS SHEET CARRIES THE PASSWORD") != with {
			t.Errorf("with %v: the warning is wrong", with)
		}
		c, scanned, err := ParseCode(k.Code + "\n")
		if err != nil || !scanned || c != (Code{k.Vault, k.Fingerprint, password}) {
			t.Errorf("code: %+v, %v, %v", c, scanned, err)
		}
	}
}

// TestCodeIsRead reads both drawings of the code with a reader of QR codes.
func TestCodeIsRead(t *testing.T) {
	for _, password := range []string{"", secret, strings.Repeat("long", 60)} {
		k := sample(password)
		text, html := drawn(t, k)
		for name, picture := range map[string]*image.Gray{"text": fromText(text), "html": fromSVG(t, html)} {
			bitmap, err := gozxing.NewBinaryBitmapFromImage(picture)
			if err != nil {
				t.Fatal(err)
			}
			got, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
			if err != nil || got.GetText() != k.Code {
				t.Errorf("%s: read %v, %v; want %q", name, got, err, k.Code)
			}
		}
	}
	if err := sample(strings.Repeat("x", 4096)).Text(io.Discard); colorfast.KindOf(err) != colorfast.Unsupported {
		t.Errorf("a password that is too long for a code: %v", err)
	}
}

const scale = 8

func canvas(w, h int) *image.Gray {
	g := image.NewGray(image.Rect(0, 0, w*scale, h*scale))
	for i := range g.Pix {
		g.Pix[i] = 255
	}
	return g
}

func ink(g *image.Gray, x, y int) {
	for dy := range scale {
		for dx := range scale {
			g.SetGray(x*scale+dx, y*scale+dy, color.Gray{})
		}
	}
}

func fromText(text string) *image.Gray {
	_, drawn, _ := strings.Cut(text, "The code holds")
	_, drawn, _ = strings.Cut(drawn, "\n")
	lines := strings.Split(drawn, "\n")
	g := canvas(200, 2*len(lines)+2*quiet)
	for y, line := range lines {
		for x, r := range []rune(line) {
			if r == '█' || r == '▀' {
				ink(g, x, 2*y+quiet)
			}
			if r == '█' || r == '▄' {
				ink(g, x, 2*y+1+quiet)
			}
		}
	}
	return g
}

var module = regexp.MustCompile(`M(\d+) (\d+)h1v1h-1z`)

func fromSVG(t *testing.T, page string) *image.Gray {
	t.Helper()
	g, n := canvas(200, 200), 0
	for _, m := range module.FindAllStringSubmatch(page, -1) {
		var at [2]int
		for i := range at {
			for _, d := range m[i+1] {
				at[i] = at[i]*10 + int(d-'0')
			}
		}
		ink(g, at[0], at[1])
		n++
	}
	if n < 200 {
		t.Fatalf("only %d modules are drawn", n)
	}
	return g
}

func TestParseCode(t *testing.T) {
	for text, want := range map[string]Code{
		"hunter2":            {Password: "hunter2"},
		" with blanks \r\n":  {Password: " with blanks "},
		"colorfast-recovery": {Password: "colorfast-recovery"},
	} {
		if c, scanned, err := ParseCode(text); err != nil || scanned || c != want {
			t.Errorf("%q: %+v, %v, %v", text, c, scanned, err)
		}
	}
	for _, text := range []string{"", "\n", codePrefix, codePrefix + "password=%zz-hunter2&fingerprint=x", codePrefix + "password=hunter2&fingerprint=0102"} {
		if _, _, err := ParseCode(text); colorfast.KindOf(err) != colorfast.Usage || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSafeURL(t *testing.T) {
	for url, want := range map[string]string{
		"file:///srv/vault?key=1":                              "file:///srv/vault?key=1",
		"s3://bucket/prefix?region=eu-1&secret_access_key=abc": "s3://bucket/prefix?region=eu-1&secret_access_key=REMOVED",
		"sftp://ada:hunter2@host/vault":                        "sftp://ada@host/vault",
		"azure://c/p?sig=abc":                                  "azure://c/p?sig=REMOVED",
		"s3://%zz:hunter2@":                                    "(a URL that cannot be parsed)",
	} {
		if got := SafeURL(url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

func TestJudge(t *testing.T) {
	set := colorfast.KeyEvent{Kind: colorfast.KeySet, KeyID: "now", At: made.Add(-300 * day), How: colorfast.MadeUp}
	verified := func(key string, age time.Duration) colorfast.KeyEvent {
		return colorfast.KeyEvent{Kind: colorfast.KeyVerified, KeyID: key, At: made.Add(-age), By: "ada"}
	}
	for name, c := range map[string]struct {
		facts KeyFacts
		want  []colorfast.Code
		warn  bool
	}{
		"made up, on the vault's disk": {KeyFacts{MadeUp: true, OnHost: true, VaultDisk: true, Since: set.At, Events: []colorfast.KeyEvent{set}},
			[]colorfast.Code{colorfast.KeyOnVaultDisk, colorfast.KeyMadeUp, colorfast.KeyNeverVerified}, true},
		"made up yesterday": {KeyFacts{MadeUp: true, OnHost: true, Since: made.Add(-day)},
			[]colorfast.Code{colorfast.KeyOnOneHost, colorfast.KeyMadeUp, colorfast.KeyNeverVerified}, false},
		"by a command":           {KeyFacts{Since: made.Add(-8 * day)}, []colorfast.Code{colorfast.KeyNeverVerified}, true},
		"of unknown age":         {KeyFacts{}, []colorfast.Code{colorfast.KeyNeverVerified}, false},
		"proven":                 {KeyFacts{MadeUp: true, OnHost: true, VaultDisk: true, Since: set.At, Events: []colorfast.KeyEvent{set, verified("now", day)}}, nil, false},
		"proven by a fast clock": {KeyFacts{Since: set.At, Events: []colorfast.KeyEvent{verified("now", -day)}}, nil, false},
		"proven long ago":        {KeyFacts{Since: set.At, Events: []colorfast.KeyEvent{verified("now", 181*day)}}, []colorfast.Code{colorfast.KeyStale}, false},
		"and again":              {KeyFacts{Since: set.At, Events: []colorfast.KeyEvent{verified("now", 181*day), verified("now", 180*day)}}, nil, false},
		"another password":       {KeyFacts{Since: made.Add(-8 * day), Events: []colorfast.KeyEvent{verified("before", day)}}, []colorfast.Code{colorfast.KeyNeverVerified}, true},
	} {
		c.facts.Host = "vm"
		if c.facts.KeyID = "now"; c.facts.Source == "" {
			c.facts.Source = "somewhere"
		}
		found := Judge(c.facts, made)
		var codes []colorfast.Code
		for _, f := range found {
			codes = append(codes, f.Code)
			if f.Severity != colorfast.Risk || f.Remedy == "" || f.Detail == "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if !slices.Equal(codes, c.want) || Warn(c.facts, made) != c.warn {
			t.Errorf("%s: %v, warn %v", name, codes, Warn(c.facts, made))
		}
	}
}
