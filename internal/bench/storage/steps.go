package storage

import (
	"math/rand/v2"
	"slices"

	"colorfast/chroma/client"
)

// step is a change to the records, and a backup after it.
type step struct {
	Name  string
	verb  client.Verb // "" leaves everything as it is
	share float64     // of the records there are
	parts func(a *author, n name, revision int) client.Record
}

// steps come one after the other, each on top of the ones before.
var steps = []step{
	{Name: "first"},
	{Name: "+0.1 %", verb: client.Add, share: 0.001, parts: whole},
	{Name: "+1.7 %", verb: client.Add, share: 0.017, parts: whole},
	{Name: "+10 %", verb: client.Add, share: 0.1, parts: whole},
	{Name: "1 % new vectors", verb: client.Update, share: 0.01, parts: vectorOnly},
	{Name: "1 % deleted", verb: client.Delete, share: 0.01, parts: idOnly},
	{Name: "1 % new metadata", verb: client.Update, share: 0.01, parts: metadataOnly},
	{Name: "nothing"},
}

func whole(a *author, n name, _ int) client.Record { return a.record(n) }

func vectorOnly(a *author, n name, revision int) client.Record {
	return client.Record{ID: n.id(), Vector: a.vector(n.random(revision), n.collection)}
}

func metadataOnly(a *author, n name, revision int) client.Record {
	return client.Record{ID: n.id(), Metadata: a.metadata(n.random(revision), n)}
}

func idOnly(_ *author, n name, _ int) client.Record { return client.Record{ID: n.id()} }

// population is which records there are.
type population struct {
	live []name
	next []int // number of the next record of each collection
}

func newPopulation(records int) *population {
	p := &population{next: make([]int, len(collections))}
	for c := range collections {
		for range int(float64(records) * collections[c].share) {
			p.add(c)
		}
	}
	return p
}

func (p *population) add(collection int) name {
	n := name{collection, p.next[collection]}
	p.next[collection]++
	p.live = append(p.live, n)
	return n
}

// choose returns the records that the step at this place in steps touches,
// spread at random over all that there are, and counts them in or out.
func (p *population) choose(at int) []name {
	s := steps[at]
	r := rand.New(rand.NewPCG(seed, uint64(at)))
	n := int(s.share * float64(len(p.live)))
	chosen := make([]name, 0, n)
	switch s.verb {
	case client.Add:
		// Collections grow in proportion to their size.
		for _, like := range p.pick(r, n) {
			chosen = append(chosen, p.add(like.collection))
		}
	case client.Delete:
		chosen = p.pick(r, n)
		p.live = p.live[:len(p.live)-n]
	default:
		chosen = p.pick(r, n)
	}
	return chosen
}

// pick moves n random records to the end of the live ones and returns a copy of
// them.
func (p *population) pick(r *rand.Rand, n int) []name {
	for i := range n {
		last := len(p.live) - 1 - i
		j := r.IntN(last + 1)
		p.live[last], p.live[j] = p.live[j], p.live[last]
	}
	return slices.Clone(p.live[len(p.live)-n:])
}
