package ledger

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"colorfast"
)

// GB is what storage is billed by, in bytes.
const GB = 1 << 30

// Price is what a class of storage costs, in one currency.
type Price struct {
	Class     string  `json:"class"`              // such as "s3-standard"
	Storage   float64 `json:"storage_gb_month"`   // for a GB and a month
	Retrieval float64 `json:"retrieval_gb"`       // for a GB that is read
	Egress    float64 `json:"egress_gb"`          // for a GB that leaves for the internet
	AsOf      string  `json:"as_of"`              // year and month of the list, "" for the user's own
	MinDays   int     `json:"min_days,omitempty"` // what is deleted earlier is billed for so long
	Scheme    string  `json:"scheme,omitempty"`   // of the URLs of vaults in it
	Currency  string  `json:"currency,omitempty"` // "" means USD
	Remark    string  `json:"remark,omitempty"`   // where it holds
}

// ListPrices are those of the three large clouds, for the first tier of volume, in
// one region in the east or the middle of the USA, without requests and taxes. Only
// classes that can be read at once are in it, since a vault reads what it holds.
func ListPrices() []Price {
	const asOf = "2026-03"
	return []Price{
		{Class: "s3-standard", Storage: 0.023, Egress: 0.09, AsOf: asOf, Scheme: "s3", Remark: "us-east-1"},
		{Class: "s3-standard-ia", Storage: 0.0125, Retrieval: 0.01, Egress: 0.09, MinDays: 30, AsOf: asOf, Scheme: "s3", Remark: "us-east-1"},
		{Class: "s3-glacier-ir", Storage: 0.004, Retrieval: 0.03, Egress: 0.09, MinDays: 90, AsOf: asOf, Scheme: "s3", Remark: "us-east-1"},
		{Class: "gcs-standard", Storage: 0.020, Egress: 0.12, AsOf: asOf, Scheme: "gs", Remark: "us-central1"},
		{Class: "gcs-nearline", Storage: 0.010, Retrieval: 0.01, Egress: 0.12, MinDays: 30, AsOf: asOf, Scheme: "gs", Remark: "us-central1"},
		{Class: "gcs-coldline", Storage: 0.004, Retrieval: 0.02, Egress: 0.12, MinDays: 90, AsOf: asOf, Scheme: "gs", Remark: "us-central1"},
		{Class: "azure-hot", Storage: 0.018, Egress: 0.087, AsOf: asOf, Scheme: "azblob", Remark: "East US, locally redundant"},
		{Class: "azure-cool", Storage: 0.010, Retrieval: 0.01, Egress: 0.087, MinDays: 30, AsOf: asOf, Scheme: "azblob", Remark: "East US, locally redundant"},
	}
}

// ParsePrice reads "0.023/GB-month", also with TB, and with egress as
// "0.023/GB-month,0.09/GB". Errors: Usage.
func ParsePrice(s string) (Price, error) {
	p := Price{Class: "given"}
	for i, part := range strings.Split(s, ",") {
		number, unit, _ := strings.Cut(strings.TrimSpace(part), "/")
		n, err := strconv.ParseFloat(strings.TrimLeft(number, "$"), 64)
		per, monthly := strings.CutSuffix(strings.ToUpper(unit), "-MONTH")
		scale := map[string]float64{"GB": 1, "GIB": 1, "TB": 1024, "TIB": 1024}[per]
		if err != nil || n < 0 || math.IsInf(n, 0) || math.IsNaN(n) || scale == 0 || monthly != (i == 0) || i > 1 {
			return Price{}, colorfast.Errorf(colorfast.Usage, "read the price %q", s).
				WithHint("write 0.023/GB-month, or 0.023/GB-month,0.09/GB with what a GB costs that leaves")
		}
		if i == 0 {
			p.Storage = n / scale
		} else {
			p.Egress = n / scale
		}
	}
	return p, nil
}

// ReadPrices reads a JSON list of prices, with the fields of Price. Errors: Usage.
func ReadPrices(r io.Reader) ([]Price, error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	var list []Price
	if err := d.Decode(&list); err != nil {
		return nil, colorfast.Errorf(colorfast.Usage, "read the prices: %w", err).WithHint("see docs/apartness.md for the form")
	}
	for _, p := range list {
		if p.Class == "" || !(p.Storage >= 0) || !(p.Retrieval >= 0) || !(p.Egress >= 0) {
			return nil, colorfast.Errorf(colorfast.Usage, "read the prices: class %q: it has no name, or a price below 0", p.Class)
		}
	}
	if len(list) == 0 {
		return nil, colorfast.Errorf(colorfast.Usage, "read the prices: the list is empty")
	}
	return list, nil
}

// Cost is what some bytes cost in a class.
type Cost struct {
	Price
	Month   float64 `json:"month"`   // to keep the vault for a month
	Restore float64 `json:"restore"` // to read one whole backup over the internet, once
	Change  float64 `json:"change"`  // by how much Month changes with what Without asks for; below 0: saved
}

// Costs returns what it costs to keep so many bytes, to restore one backup of so
// many, and what it changes that so many are freed.
func Costs(prices []Price, kept, restored, freed int64) []Cost {
	out := make([]Cost, len(prices))
	for i, p := range prices {
		out[i] = Cost{
			Price: p, Month: p.Storage * float64(kept) / GB,
			Restore: (p.Retrieval + p.Egress) * float64(restored) / GB,
			Change:  -p.Storage * float64(freed) / GB,
		}
		if freed == 0 {
			out[i].Change = 0
		}
	}
	return out
}

// PricesFor returns the prices that fit a vault's URL, all if none does.
func PricesFor(list []Price, url string) []Price {
	scheme, _, _ := strings.Cut(url, "://")
	var out []Price
	for _, p := range list {
		if p.Scheme == scheme && scheme != "" {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return list
	}
	return out
}

// Money writes an amount for people.
func Money(amount float64, currency string) string {
	if currency == "" {
		currency = "USD"
	}
	switch abs := math.Abs(amount); {
	case abs == 0:
		return "0 " + currency
	case abs < 0.01:
		return "under 0.01 " + currency
	default:
		return fmt.Sprintf("%.2f %s", amount, currency)
	}
}
