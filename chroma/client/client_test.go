package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func serve(t *testing.T, h http.HandlerFunc) (*Client, error) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return Connect(t.Context(), s.URL+"/", Options{Header: http.Header{"X-Chroma-Token": {"t"}}, MaxResponse: 1000})
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name, body, wantName, wantMessage string
		status                            int
	}{
		{"1.x", `{"error":"NotFoundError","message":"Collection [x] does not exist"}`, "NotFoundError", "Collection [x] does not exist", 404},
		{"0.6", `{"error":"InvalidDimension('Dimension 3')"}`, "InvalidDimension", "InvalidDimension('Dimension 3')", 400},
		{"FastAPI", `{"detail":[{"loc":["body"],"msg":"field required"}]}`, "", `[{"loc":["body"],"msg":"field required"}]`, 422},
		{"only a name", `{"error":"InternalError"}`, "InternalError", "", 500},
		{"proxy", "<h1>502\n Bad Gateway</h1>", "", "<h1>502 Bad Gateway</h1>", 502},
		{"too large", "Payload too large", "", "Payload too large", 413},
		{"empty", "", "", "", 405},
		{"long", strings.Repeat("é ", 4000), "", strings.Repeat("é ", 333) + "…", 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl, err := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/heartbeat") {
					return
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = cl.Count(t.Context(), "x")
			want := &Error{Method: "GET", Path: "/api/v2/tenants/default_tenant/databases/default_database/collections/x/count", Status: c.status, Name: c.wantName, Message: c.wantMessage}
			if e, ok := errors.AsType[*Error](err); !ok || !reflect.DeepEqual(e, want) {
				t.Errorf("got  %#v\nwant %#v", err, want)
			}
			if Status(err) != c.status {
				t.Errorf("status %d", Status(err))
			}
		})
	}
}

func TestConnect(t *testing.T) {
	t.Run("falls back to version 1 and sends the headers", func(t *testing.T) {
		var paths []string
		c, err := serve(t, func(w http.ResponseWriter, r *http.Request) {
			paths = append(paths, r.URL.String())
			if r.Header.Get("X-Chroma-Token") != "t" {
				w.WriteHeader(http.StatusForbidden)
			} else if strings.HasPrefix(r.URL.Path, "/api/v2") {
				w.WriteHeader(http.StatusNotFound)
			} else {
				_, _ = w.Write([]byte("[]"))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.In("a&b", "c").Collections(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []string{"/api/v2/heartbeat", "/api/v1/heartbeat", "/api/v1/collections?database=c&tenant=a%26b"}
		if !reflect.DeepEqual(paths, want) {
			t.Errorf("asked %q, want %q", paths, want)
		}
	})
	t.Run("refuses what is no address", func(t *testing.T) {
		for _, a := range []string{"", "localhost:8000", "ftp://x", "http://", "http://a b"} {
			if _, err := Connect(t.Context(), a, Options{}); err == nil {
				t.Errorf("%q was accepted", a)
			}
		}
	})
	t.Run("tells a refusal", func(t *testing.T) {
		_, err := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
		if Status(err) != http.StatusUnauthorized {
			t.Error(err)
		}
	})
}

func TestBounds(t *testing.T) {
	var calls atomic.Int64
	c, err := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/large/get"):
			_, _ = w.Write([]byte(`{"ids":["` + strings.Repeat("x", 2000) + `"]}`))
		case strings.HasSuffix(r.URL.Path, "/slow/get"):
			_, _ = io.Copy(io.Discard, r.Body) // else the server does not watch the connection
			<-r.Context().Done()
		case strings.HasSuffix(r.URL.Path, "/uneven/get"):
			_, _ = w.Write([]byte(`{"ids":["a","b"],"documents":["x"]}`))
		case strings.HasSuffix(r.URL.Path, "/broken/add"):
			calls.Add(1)
			panic(http.ErrAbortHandler)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.IDs(t.Context(), "large"); err == nil || !strings.Contains(err.Error(), "larger than 1000 bytes") {
		t.Errorf("a large response: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.IDs(ctx, "slow"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow response: %v", err)
	}
	if _, err := c.Get(t.Context(), "uneven", []string{"a", "b"}); err == nil {
		t.Error("columns of different length were accepted")
	}
	if recs, err := c.Get(t.Context(), "none", nil); err != nil || recs != nil {
		t.Errorf("no ids gave %v, %v", recs, err)
	}
	if err := c.Write(t.Context(), "broken", Add, []Record{{ID: "a", Vector: []float32{1}}}); err == nil {
		t.Error("a broken connection was no error")
	}
	if calls.Load() != 1 {
		t.Errorf("a write was sent %d times", calls.Load())
	}
	if err := c.Write(t.Context(), "x", "get", nil); err == nil {
		t.Error("an unknown verb was accepted")
	}
}

func TestVectorIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	v := Vector{0, float32(math.Copysign(0, -1)), math.MaxFloat32, math.SmallestNonzeroFloat32, 0.1, 1 << 24}
	for len(v) < 100_000 {
		if f := math.Float32frombits(r.Uint32()); f == f && !math.IsInf(float64(f), 0) {
			v = append(v, f)
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range strings.Split(strings.Trim(string(b), "[]"), ",") {
		as32, _ := strconv.ParseFloat(s, 32)
		as64, _ := strconv.ParseFloat(s, 64)
		for _, f := range []float32{float32(as32), float32(as64)} {
			if math.Float32bits(f) != math.Float32bits(v[i]) {
				t.Fatalf("%x was written as %s and read as %x", v[i], s, f)
			}
		}
	}
	if _, err := json.Marshal(Vector{float32(math.NaN())}); err == nil {
		t.Error("NaN was written")
	}
}

func TestMetadataKeepsTypes(t *testing.T) {
	m := Metadata{"i": int64(math.MaxInt64), "f": 2.0, "e": 1e300, "s": "x", "b": true, "l": []any{int64(1), 2.0}, "z": nil}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var got Metadata
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, m) {
		t.Errorf("%s gave %#v, want %#v", b, got, m)
	}
	if b, err := json.Marshal(Columns{Metadatas: []Metadata{nil, {}}}); err != nil || string(b) != `{"metadatas":[null,{}]}` {
		t.Errorf("got %s, %v", b, err)
	}
}

func TestRecordsOfAnswers(t *testing.T) {
	for body, want := range map[string]int{ // records, -1 for an error
		`{"ids":["a"],"embeddings":[[1]],"documents":["d"],"uris":[null],"metadatas":[{"k":1}]}`: 1,
		`{"ids":["a"],"embeddings":[],"documents":["d"],"metadatas":[null]}`:                     1, // 0.6.3, of a record without vector
		`{"ids":["a"],"embeddings":null}`:                                                        1,
		`{"ids":[]}`:                                                                             0,
		`{"ids":["a","b"],"embeddings":[[1]]}`:                                                   -1,
		`{"ids":["a"],"documents":["d","e"]}`:                                                    -1,
		`{"ids":"a"}`:                                                                            -1,
	} {
		cl, err := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/heartbeat") {
				_, _ = w.Write([]byte(body))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		recs, err := cl.Get(t.Context(), "x", []string{"a"})
		if (err != nil) != (want < 0) || err == nil && len(recs) != want {
			t.Errorf("%s: %d records, error %v", body, len(recs), err)
		}
	}
}
