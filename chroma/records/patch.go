package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"colorfast/chroma/sysdb"
)

// The metadata keys that Chroma maps to a record's document and uri
// (rust/types/src/metadata.rs).
const (
	documentKey = "chroma:document"
	uriKey      = "chroma:uri"
)

// errShape is for JSON that is no metadata of Chroma's.
var errShape = errors.New("not a JSON object of strings, numbers, booleans, nulls and arrays of these")

// parsePatch reads the metadata of a queue row: a JSON object, "" for none. The
// result is sorted by key; Null stands for the removal of a key. As Chroma
// does, a number without fraction and exponent that fits in 64 bits is an int
// and any other a float, and of a key given twice the last counts. An empty
// array is kept as such: see applyPatch.
func parsePatch(s string) ([]Field, error) {
	if s == "" || s == "{}" || s == "null" {
		return nil, nil
	}
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.Join(errShape, err)
	}
	var out []Field
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if !ok {
			return nil, errShape
		}
		v, err := parseValue(dec, true)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", key, err)
		}
		out = append(out, Field{Key: key, Value: v})
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errShape
	}
	sysdb.SortFields(out)
	last := out[:0] // of equal keys, which a stable sort left in order
	for i, f := range out {
		if i+1 == len(out) || out[i+1].Key != f.Key {
			last = append(last, f)
		}
	}
	return last, nil
}

// parseValue reads one value; arrays do not nest.
func parseValue(dec *json.Decoder, arrays bool) (Value, error) {
	t, err := dec.Token()
	if err != nil {
		return Value{}, err
	}
	switch t := t.(type) {
	case nil:
		return Value{}, nil
	case string:
		return Value{Kind: sysdb.String, Str: t}, nil
	case bool:
		v := Value{Kind: sysdb.Bool}
		if t {
			v.Int = 1
		}
		return v, nil
	case json.Number:
		return parseNumber(string(t))
	case json.Delim:
		if t != '[' || !arrays {
			return Value{}, errShape
		}
		v := Value{Kind: sysdb.Array, Array: []Value{}}
		for dec.More() {
			e, err := parseValue(dec, false)
			if err != nil || e.Kind == sysdb.Null {
				return Value{}, errors.Join(errShape, err)
			}
			v.Array = append(v.Array, e)
		}
		_, err := dec.Token()
		return v, err
	}
	return Value{}, errShape
}

// parseNumber tells ints from floats.
func parseNumber(s string) (Value, error) {
	if !strings.ContainsAny(s, ".eE") {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && s != "-0" {
			return Value{Kind: sysdb.Int, Int: n}, nil
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) {
		return Value{}, errShape
	}
	return Value{Kind: sysdb.Float, Float: f}, nil
}

// applyPatch lays a patch over sorted fields: given keys replace, null removes,
// others stay. An empty array is not stored, so it removes too.
func applyPatch(fields, patch []Field) []Field {
	for _, p := range patch {
		i, ok := sysdb.FindField(fields, p.Key)
		switch remove := p.Value.Kind == sysdb.Null || (p.Value.Kind == sysdb.Array && len(p.Value.Array) == 0); {
		case remove && ok:
			fields = slices.Delete(fields, i, i+1)
		case remove:
		case ok:
			fields[i].Value = p.Value
		default:
			fields = slices.Insert(fields, i, p)
		}
	}
	return fields
}

// split fills in a record's document, uri and metadata from all its fields,
// which it shortens.
func (r *Record) split(fields []Field) {
	r.Document, r.URI = nil, nil
	r.Metadata = fields[:0]
	for _, f := range fields {
		switch {
		case f.Key == documentKey && f.Value.Kind == sysdb.String:
			s := f.Value.Str
			r.Document = &s
		case f.Key == uriKey && f.Value.Kind == sysdb.String:
			s := f.Value.Str
			r.URI = &s
		default:
			r.Metadata = append(r.Metadata, f)
		}
	}
}
