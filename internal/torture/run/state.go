package main

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"path/filepath"

	"colorfast/chroma"
	"colorfast/chroma/client"
	"colorfast/chroma/records"
	"colorfast/chroma/sysdb"
	"colorfast/internal/torture"
)

// readState reads all records of a persist directory with colorfast's readers,
// as the judge wants them. scratch is an existing folder.
func readState(ctx context.Context, dir, scratch string) (_ torture.State, err error) {
	db, err := sysdb.Open(filepath.Join(dir, chroma.SQLiteFile))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	list, err := db.Collections(ctx)
	if err != nil {
		return nil, err
	}
	state := torture.State{}
	for _, c := range list {
		got := map[string]client.Record{}
		_, err := records.Read(ctx, db, c, dir, scratch, func(r *records.Record) error {
			got[r.ID] = convert(r)
			return nil
		})
		if err != nil {
			return nil, err
		}
		state[c.Name] = got
	}
	return state, nil
}

// convert makes of a record what Chroma's API would return of it.
func convert(r *records.Record) client.Record {
	out := client.Record{ID: r.ID, Document: r.Document, URI: r.URI}
	if r.Vector != nil {
		out.Vector = make([]float32, len(r.Vector)/4)
		for i := range out.Vector {
			out.Vector[i] = math.Float32frombits(binary.LittleEndian.Uint32(r.Vector[4*i:]))
		}
	}
	for _, f := range r.Metadata {
		if out.Metadata == nil {
			out.Metadata = client.Metadata{}
		}
		out.Metadata[f.Key] = f.Value.Any()
	}
	return out
}
