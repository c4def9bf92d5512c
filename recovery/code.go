package recovery

import (
	"image/color"
	"net/url"
	"strings"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"

	"colorfast"
)

// Code is what the QR code of a kit says.
type Code struct {
	Vault       string
	Fingerprint colorfast.Fingerprint
	Password    string // "" unless the kit carries it
}

// codePrefix names the form of a code; the number changes with it.
const codePrefix = "colorfast-recovery:1?"

// String returns the text of the code.
func (c Code) String() string {
	q := url.Values{"vault": {c.Vault}, "fingerprint": {string(c.Fingerprint)}}
	if c.Password != "" {
		q.Set("password", c.Password)
	}
	return codePrefix + q.Encode()
}

// ParseCode reads what a person has typed, pasted or scanned: the text of a code,
// or a password alone, from which line ends are taken away. scanned tells which.
// Errors: Usage, which never show what was read.
func ParseCode(text string) (c Code, scanned bool, err error) {
	text = strings.TrimRight(text, "\r\n")
	rest, scanned := strings.CutPrefix(strings.TrimSpace(text), codePrefix)
	if !scanned {
		if text == "" {
			return Code{}, false, colorfast.Errorf(colorfast.Usage, "read the password: nothing was given").
				WithHint("type it, or give it on standard input")
		}
		return Code{Password: text}, false, nil
	}
	q, perr := url.ParseQuery(rest)
	if perr != nil { // its message would show a part of the text
		return Code{}, true, colorfast.Errorf(colorfast.Usage, "read the code of the recovery kit: it is not whole").
			WithHint("scan it again")
	}
	c = Code{Vault: q.Get("vault"), Password: q.Get("password")}
	if c.Fingerprint, err = colorfast.ParseFingerprint(q.Get("fingerprint")); err != nil {
		return Code{}, true, err
	}
	return c, true, nil
}

// quiet is the empty margin that readers of QR codes want, in modules.
const quiet = 4

// modules returns a QR code as rows of dark and light, with its margin.
func modules(text string) ([][]bool, error) {
	// M mends 15 % of what a fold or a stain has spoiled.
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return nil, colorfast.Errorf(colorfast.Unsupported, "draw the QR code: %w", err)
	}
	n := code.Bounds().Dx()
	rows := make([][]bool, n+2*quiet)
	for y := range rows {
		rows[y] = make([]bool, n+2*quiet)
		for x := range rows[y] {
			rows[y][x] = dark(code, x-quiet, y-quiet, n)
		}
	}
	return rows, nil
}

func dark(code barcode.Barcode, x, y, n int) bool {
	return x >= 0 && y >= 0 && x < n && y < n && color.GrayModel.Convert(code.At(x, y)).(color.Gray).Y < 128
}

// halves draws two rows of modules on one line. Dark is ink, as on paper.
func halves(rows [][]bool) string {
	var out strings.Builder
	for y := 0; y < len(rows); y += 2 {
		var line strings.Builder
		for x := range rows[y] {
			lower := y+1 < len(rows) && rows[y+1][x]
			switch {
			case rows[y][x] && lower:
				line.WriteRune('█')
			case rows[y][x]:
				line.WriteRune('▀')
			case lower:
				line.WriteRune('▄')
			default:
				line.WriteByte(' ')
			}
		}
		if l := strings.TrimRight(line.String(), " "); l != "" {
			out.WriteString(l + "\n")
		}
	}
	return out.String()
}
