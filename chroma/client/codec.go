package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Vector is a vector in a request. Each number is written as the shortest
// decimal that a reader gets back to the same float32, whether it reads it
// as float32 (Chroma 1.x) or as float64 first (0.x).
type Vector []float32

// MarshalJSON implements json.Marshaler.
func (v Vector) MarshalJSON() ([]byte, error) {
	if v == nil {
		return []byte("null"), nil
	}
	b := make([]byte, 0, 12*len(v)+2)
	b = append(b, '[')
	for i, f := range v {
		if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
			return nil, fmt.Errorf("vector has %v at %d", f, i)
		}
		if i > 0 {
			b = append(b, ',')
		}
		start := len(b)
		b = strconv.AppendFloat(b, float64(f), 'g', -1, 32)
		if d, err := strconv.ParseFloat(string(b[start:]), 64); err != nil || float32(d) != f {
			b = strconv.AppendFloat(b[:start], float64(f), 'g', -1, 64)
		}
	}
	return append(b, ']'), nil
}

// Metadata is the metadata of a record or collection. Values are string, bool,
// int64, float64, or []any of these; nil only in an update, where it deletes
// the key. Integers and floats stay what they are: 2.0 is sent as "2.0", and
// only numbers written without point and exponent come back as int64.
type Metadata map[string]any

// MarshalJSON implements json.Marshaler.
func (m Metadata) MarshalJSON() ([]byte, error) {
	if m == nil {
		return []byte("null"), nil
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = outgoing(v)
	}
	return json.Marshal(out)
}

func outgoing(v any) any {
	switch v := v.(type) {
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return v // json.Marshal refuses it with a good message
		}
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return json.RawMessage(s)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = outgoing(v[i])
		}
		return out
	}
	return v
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Metadata) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var in map[string]any
	if err := d.Decode(&in); err != nil {
		return err
	}
	for k, v := range in {
		w, err := incoming(v)
		if err != nil {
			return fmt.Errorf("metadata %q: %w", k, err)
		}
		in[k] = w
	}
	*m = in
	return nil
}

func incoming(v any) (any, error) {
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(string(v), ".eE") {
			if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
				return n, nil
			}
		}
		return strconv.ParseFloat(string(v), 64)
	case []any:
		for i := range v {
			w, err := incoming(v[i])
			if err != nil {
				return nil, err
			}
			v[i] = w
		}
	}
	return v, nil
}
