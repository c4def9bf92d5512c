package storage

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"colorfast/chroma/client"
)

const (
	dimension = 384
	clusters  = 100 // of a collection's vectors
	// spread is how far vectors are from their cluster's centre, against how far
	// centres are from each other.
	spread = 0.7

	vocabulary = 30000 // words that documents are made of
)

// author makes the content of records. The same record has the same content in
// every run.
type author struct {
	words   []string
	centres [][][]float32 // of each collection
}

func newAuthor() *author {
	a := &author{words: make([]string, vocabulary)}
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range a.words {
		a.words[i] = word(r, i)
	}
	for range collections {
		centres := make([][]float32, clusters)
		for i := range centres {
			centres[i] = make([]float32, dimension)
			for j := range centres[i] {
				centres[i][j] = float32(r.NormFloat64())
			}
		}
		a.centres = append(a.centres, centres)
	}
	return a
}

// word makes up a word; the frequent ones, which come first, are short.
func word(r *rand.Rand, rank int) string {
	const consonants, vowels = "bcdfghklmnprstvw", "aeiou"
	var b strings.Builder
	for range 1 + r.IntN(2) + len(fmt.Sprint(rank))/2 {
		b.WriteByte(consonants[r.IntN(len(consonants))])
		b.WriteByte(vowels[r.IntN(len(vowels))])
		if r.IntN(3) == 0 {
			b.WriteByte(consonants[r.IntN(len(consonants))])
		}
	}
	return b.String()
}

// name is what a record is called; what it is made of depends on its revision
// as well.
type name struct{ collection, number int }

func (n name) id() string { return fmt.Sprintf("doc-%d-%07d", n.collection, n.number) }

func (n name) random(revision int) *rand.Rand {
	return rand.New(rand.NewPCG(seed+uint64(n.collection+1), uint64(n.number)<<8|uint64(revision)))
}

// record returns a record whole.
func (a *author) record(n name) client.Record {
	r := n.random(0)
	vec := a.vector(r, n.collection)
	doc := a.document(r)
	return client.Record{ID: n.id(), Vector: vec, Document: &doc, Metadata: a.metadata(r, n)}
}

// vector returns a unit vector near one of the collection's centres, as models
// that embed text make them: no two share a number, and all bits of a mantissa
// are used.
func (a *author) vector(r *rand.Rand, collection int) []float32 {
	centre := a.centres[collection][r.IntN(clusters)]
	vec := make([]float32, dimension)
	var sum float64
	for i := range vec {
		v := float64(centre[i]) + spread*r.NormFloat64()
		vec[i] = float32(v)
		sum += v * v
	}
	norm := float32(1 / math.Sqrt(sum))
	for i := range vec {
		vec[i] *= norm
	}
	return vec
}

// document returns 200 to 800 bytes of words, the frequent ones more often.
func (a *author) document(r *rand.Rand) string {
	frequency := rand.NewZipf(r, 1.1, 4, vocabulary-1)
	size := 200 + r.IntN(600)
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(a.words[frequency.Uint64()])
		if r.IntN(12) == 0 {
			b.WriteByte('.')
		}
		b.WriteByte(' ')
	}
	return b.String()
}

// metadata returns values of every kind.
func (a *author) metadata(r *rand.Rand, n name) client.Metadata {
	return client.Metadata{
		"source":    fmt.Sprintf("library/%s/%s.html", a.words[100+n.number%97], a.words[1000+n.number/20%5000]),
		"language":  []string{"en", "de", "fr", "es"}[r.IntN(4)],
		"chunk":     int64(n.number % 20),
		"created":   int64(1_700_000_000 + r.IntN(30_000_000)),
		"quality":   r.Float64(),
		"published": r.IntN(3) > 0,
	}
}
