package sysdb

import (
	"encoding/json"

	"zombiezen.com/go/sqlite"
)

const typeNull = sqlite.TypeNull

// Config is how the index of a collection is set up; 0 is for values that are
// not recorded.
type Config struct {
	Space          string // l2, cosine or ip
	SyncThreshold  int    // records between two saves of the index
	BatchSize      int    // records in the buffer before the index (Python era)
	M              int    // neighbours per element
	EFConstruction int
	EFSearch       int
	From           From // where it was read
}

// From names the place of a configuration. Chroma has had four.
type From string

// The places.
const (
	FromDefaults From = "defaults"         // nowhere: Chroma's defaults
	FromSegment  From = "segment_metadata" // keys hnsw:*, before 1.0
	FromPython   From = "config_json_str of 0.5.4"
	FromRust     From = "config_json_str of 1.0"
	FromSchema   From = "schema_str"
)

// defaults are Chroma's: 1000 and 100 of HnswConfiguration in
// rust/types/src/hnsw_configuration.rs, which equal the Python era's but for
// ef_search (10 before 0.5.17).
var defaults = Config{Space: "l2", SyncThreshold: 1000, BatchSize: 100, M: 16, EFConstruction: 100, EFSearch: 100, From: FromDefaults}

// hnsw is the index part of all three JSON shapes.
type hnsw struct {
	Space          *string `json:"space"`
	EFConstruction *int    `json:"ef_construction"`
	EFSearch       *int    `json:"ef_search"`
	M              *int    `json:"M"`
	MaxNeighbors   *int    `json:"max_neighbors"`
	SyncThreshold  *int    `json:"sync_threshold"`
	BatchSize      *int    `json:"batch_size"`
}

// config finds the effective configuration: schema_str (since 1.3), then
// config_json_str of 1.0–1.2, then segment_metadata, which is what counts in
// 0.4–0.6, then config_json_str of 0.5.4–0.6, then the defaults. What is not
// valid JSON counts as not there. Chroma 1.x likewise prefers segment_metadata
// to a configuration that equals the default (try_from_collection_config... in
// rust/types/src/collection_schema.rs).
func config(configJSON, schemaJSON string, params map[string]Value) Config {
	if c, ok := fromSchema(schemaJSON); ok && (c != withFrom(defaults, FromSchema) || len(params) == 0) {
		return c
	}
	if c, ok := fromRust(configJSON); ok && (c != withFrom(defaults, FromRust) || len(params) == 0) {
		return c
	}
	if len(params) > 0 {
		return fromParams(params)
	}
	if c, ok := fromPython(configJSON); ok {
		return c
	}
	return defaults
}

// withFrom returns c with another place.
func withFrom(c Config, from From) Config {
	c.From = from
	return c
}

// fromSchema reads schema_str: the vector index of the key #embedding, else of
// the defaults.
func fromSchema(s string) (Config, bool) {
	type lists struct {
		FloatList struct {
			VectorIndex struct {
				Config struct {
					Space *string `json:"space"`
					HNSW  *hnsw   `json:"hnsw"`
				} `json:"config"`
			} `json:"vector_index"`
		} `json:"float_list"`
	}
	var doc struct {
		Defaults lists            `json:"defaults"`
		Keys     map[string]lists `json:"keys"`
	}
	if s == "" || json.Unmarshal([]byte(s), &doc) != nil {
		return Config{}, false
	}
	index, ok := doc.Keys["#embedding"]
	if !ok {
		index = doc.Defaults
	}
	c := index.FloatList.VectorIndex.Config
	if c.Space == nil && c.HNSW == nil {
		return Config{}, false
	}
	out := apply(c.HNSW, FromSchema)
	if c.Space != nil {
		out.Space = *c.Space
	}
	return out, true
}

// fromRust reads config_json_str as 1.0–1.2 write it.
func fromRust(s string) (Config, bool) {
	var doc struct {
		VectorIndex *struct {
			HNSW *hnsw `json:"hnsw"`
		} `json:"vector_index"`
	}
	if s == "" || json.Unmarshal([]byte(s), &doc) != nil || doc.VectorIndex == nil || doc.VectorIndex.HNSW == nil {
		return Config{}, false
	}
	return apply(doc.VectorIndex.HNSW, FromRust), true
}

// fromPython reads config_json_str as 0.5.4–0.6 write it.
func fromPython(s string) (Config, bool) {
	var doc struct {
		HNSW *hnsw `json:"hnsw_configuration"`
	}
	if s == "" || json.Unmarshal([]byte(s), &doc) != nil || doc.HNSW == nil {
		return Config{}, false
	}
	return apply(doc.HNSW, FromPython), true
}

// apply lays a JSON shape over the defaults.
func apply(h *hnsw, from From) Config {
	c := withFrom(defaults, from)
	if h == nil {
		return c
	}
	if h.Space != nil {
		c.Space = *h.Space
	}
	for _, f := range []struct {
		to   *int
		from *int
	}{
		{&c.EFConstruction, h.EFConstruction}, {&c.EFSearch, h.EFSearch}, {&c.M, h.M}, {&c.M, h.MaxNeighbors},
		{&c.SyncThreshold, h.SyncThreshold}, {&c.BatchSize, h.BatchSize},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	return c
}

// fromParams reads segment_metadata; the names are those of PersistentHnswParams
// in chromadb/segment/impl/vector/hnsw_params.py (0.4–0.6).
func fromParams(params map[string]Value) Config {
	c := withFrom(defaults, FromSegment)
	if v := params["hnsw:space"]; v.Kind == String {
		c.Space = v.Str
	}
	for key, to := range map[string]*int{
		"hnsw:construction_ef": &c.EFConstruction, "hnsw:search_ef": &c.EFSearch, "hnsw:M": &c.M,
		"hnsw:sync_threshold": &c.SyncThreshold, "hnsw:batch_size": &c.BatchSize,
	} {
		if v := params[key]; v.Kind == Int {
			*to = int(v.Int)
		}
	}
	return c
}
