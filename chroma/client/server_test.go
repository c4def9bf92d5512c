package client_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"testing"

	"colorfast/chroma/client"
	"colorfast/internal/chromatest"
)

// each runs a test against a real server of every version.
func each(t *testing.T, f func(t *testing.T, version string, c *client.Client)) {
	for _, v := range chromatest.Versions() {
		t.Run(v, func(t *testing.T) {
			s := chromatest.Start(t, chromatest.Options{Version: v})
			f(t, v, s.Chroma(t).Client)
		})
	}
}

func python(version string) bool { return version[0] == '0' }

func TestRecords(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers")
	}
	each(t, func(t *testing.T, version string, c *client.Client) {
		ctx := t.Context()
		if want := 2; (version == "0.4.24") != (c.APIVersion() != want) {
			t.Errorf("API version %d", c.APIVersion())
		}
		for _, space := range []string{"l2", "ip", "cosine"} {
			t.Run(space, func(t *testing.T) {
				col, err := c.CreateCollection(ctx, client.NewCollection{Name: "col-" + space, Metadata: client.Metadata{"hnsw:space": space, "hnsw:sync_threshold": int64(300), "hnsw:batch_size": int64(100), "f": 2.0}})
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(col.Metadata["f"], 2.0) || !reflect.DeepEqual(col.Metadata["hnsw:sync_threshold"], int64(300)) {
					t.Errorf("collection metadata came back as %#v", col.Metadata)
				}
				want := records(1200)
				for i := 0; i < len(want); i += 300 {
					if err := c.Write(ctx, col.ID, client.Add, want[i:i+300]); err != nil {
						t.Fatal(err)
					}
				}
				changed := records(50)
				for i := range changed {
					changed[i].Vector, changed[i].Document, changed[i].URI = nil, nil, nil
					changed[i].Metadata = client.Metadata{"new": true, "n": int64(-i)}
					if want[i].Metadata == nil {
						want[i].Metadata = client.Metadata{}
					}
					want[i].Metadata["new"], want[i].Metadata["n"] = true, int64(-i)
				}
				if err := c.Write(ctx, col.ID, client.Update, changed); err != nil {
					t.Fatal(err)
				}
				if err := c.Write(ctx, col.ID, client.Delete, want[1100:1150]); err != nil {
					t.Fatal(err)
				}
				want = slices.Delete(want, 1100, 1150)
				want[7].Vector = slices.Clone(want[8].Vector)
				want[7].Vector[0]++
				if err := c.Write(ctx, col.ID, client.Upsert, want[7:8]); err != nil {
					t.Fatal(err)
				}
				if n, err := c.Count(ctx, col.ID); err != nil || n != int64(len(want)) {
					t.Fatalf("count %d, %v; want %d", n, err, len(want))
				}
				compare(t, all(t, c, col.ID), want, space == "cosine")
				hits, err := c.Query(ctx, col.ID, [][]float32{want[7].Vector, want[900].Vector}, 3)
				if err != nil {
					t.Fatal(err)
				}
				if space == "l2" && (len(hits[0]) != 3 || hits[0][0].ID != want[7].ID || hits[0][0].Distance > 1e-6 || hits[1][0].ID != want[900].ID) {
					t.Errorf("query gave %v", hits)
				}
			})
		}
	})
}

// records makes records with all kinds of values, the same ones every time.
func records(n int) []client.Record {
	r := rand.New(rand.NewPCG(1, 2))
	recs := make([]client.Record, n)
	for i := range recs {
		rec := &recs[i]
		rec.ID = fmt.Sprintf("id-%05d", i)
		rec.Vector = make([]float32, 16)
		for j := range rec.Vector {
			rec.Vector[j] = float32(r.NormFloat64())
		}
		if r.IntN(4) > 0 {
			rec.Document = new(fmt.Sprintf("document %d: \"é漢🙂\n\t\\ & <b>", r.IntN(1000)))
		}
		if r.IntN(4) == 0 {
			rec.URI = new(fmt.Sprintf("s3://bucket/%d?x=é", i))
		}
		if r.IntN(4) > 0 {
			rec.Metadata = client.Metadata{"n": int64(i), "whole": 3.0, "part": 0.375, "yes": i%2 == 0, "word": "wört"}
		}
	}
	return recs
}

func all(t *testing.T, c *client.Client, id string) []client.Record {
	t.Helper()
	var got []client.Record
	err := c.All(t.Context(), id, func(page []client.Record) error {
		if len(page) > client.PageSize {
			t.Errorf("a page of %d records", len(page))
		}
		got = append(got, page...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func compare(t *testing.T, got, want []client.Record, rounded bool) {
	t.Helper()
	byID := map[string]client.Record{}
	for _, r := range got {
		byID[r.ID] = r
	}
	if len(got) != len(want) || len(byID) != len(want) {
		t.Errorf("%d records, %d ids, want %d", len(got), len(byID), len(want))
	}
	bad := 0
	for _, w := range want {
		g := byID[w.ID]
		if rounded {
			for i := range g.Vector {
				if d := g.Vector[i] - w.Vector[i]; d > 1e-5 || d < -1e-5 {
					t.Errorf("%s: vector is %v, want %v", w.ID, g.Vector, w.Vector)
				}
			}
			g.Vector = w.Vector
		}
		if !reflect.DeepEqual(g, w) {
			if bad++; bad < 4 {
				t.Errorf("got  %#v\nwant %#v", g, w)
			}
		}
	}
}

func TestCollections(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers")
	}
	each(t, func(t *testing.T, version string, c *client.Client) {
		ctx := t.Context()
		if err := c.CreateTenant(ctx, "acme é"); err != nil {
			t.Fatal(err)
		}
		if err := c.CreateTenant(ctx, "acme é"); err == nil {
			t.Error("a tenant could be created twice")
		}
		c = c.In("acme é", "second")
		if err := c.CreateDatabase(ctx, "second"); err != nil {
			t.Fatal(err)
		}
		if list, err := c.Databases(ctx); err == nil {
			if len(list) != 1 || list[0].Name != "second" || list[0].Tenant != "acme é" {
				t.Errorf("databases %v", list)
			}
		} else if !errors.Is(err, client.ErrUnsupported) || version != "0.5.23" && version != "0.4.24" {
			t.Error(err)
		}
		n := client.NewCollection{Name: "first"}
		if !python(version) {
			n.Configuration = []byte(`{"hnsw":{"space":"ip","sync_threshold":20}}`)
		}
		made, err := c.CreateCollection(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreateCollection(ctx, n); err == nil {
			t.Error("a collection could be created twice")
		}
		n.GetOrCreate = true
		if again, err := c.CreateCollection(ctx, n); err != nil || again.ID != made.ID {
			t.Errorf("get or create gave %v, %v", again, err)
		}
		if found, err := c.Collection(ctx, "first"); err != nil || found.ID != made.ID {
			t.Errorf("found %v, %v", found, err)
		}
		if list, err := c.Collections(ctx); err != nil || len(list) != 1 || list[0].ID != made.ID {
			t.Errorf("list %v, %v", list, err)
		}
		if list, err := c.In(client.DefaultTenant, client.DefaultDatabase).Collections(ctx); err != nil || len(list) != 0 {
			t.Errorf("list of the default database %v, %v", list, err)
		}
		err = c.Write(ctx, made.ID, client.Add, records(2))
		if err != nil {
			t.Fatal(err)
		}
		err = c.Write(ctx, made.ID, client.Add, []client.Record{{ID: "short", Vector: []float32{1, 2}}})
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Status < 400 || e.Message == "" {
			t.Errorf("a vector of another length: %v", err)
		} else {
			t.Log(err)
		}
		if err := c.DeleteCollection(ctx, "first"); err != nil {
			t.Fatal(err)
		}
		_, err = c.Collection(ctx, "first")
		if s := client.Status(err); s < 400 || !python(version) && s != http.StatusNotFound {
			t.Errorf("find a deleted collection: %v", err)
		}
	})
}
