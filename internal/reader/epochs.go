package reader

import (
	"strconv"
	"strings"
)

// epochs are the names of the index's blobs, sorted out.
type epochs struct {
	write     int              // W
	watermark int64            // the greatest T of all xwT
	added     map[int][]string // xn, by epoch
	merged    map[int][]string // xs, by epoch; complete
	ranges    map[int]map[int][]string
}

// newEpochs reads the names of "Index blobs that count".
func newEpochs(names []string) epochs {
	e := epochs{added: map[int][]string{}, merged: map[int][]string{}, ranges: map[int]map[int][]string{}}
	for _, name := range names {
		if len(name) < 2 {
			continue
		}
		numbers := strings.Split(name[2:], "_")
		a, err := strconv.Atoi(numbers[0])
		if err != nil {
			continue
		}
		switch {
		case name[:2] == "xe":
			e.write = max(e.write, a)
		case name[:2] == "xw":
			e.watermark = max(e.watermark, int64(a))
		case name[:2] == "xn" && len(numbers) == 2:
			e.added[a] = append(e.added[a], name)
		case name[:2] == "xs" && len(numbers) == 2:
			e.merged[a] = append(e.merged[a], name)
		case name[:2] == "xr" && len(numbers) == 3:
			if b, err := strconv.Atoi(numbers[1]); err == nil && b > a {
				if e.ranges[a] == nil {
					e.ranges[a] = map[int][]string{}
				}
				e.ranges[a][b] = append(e.ranges[a][b], name)
			}
		}
	}
	for a, names := range e.merged {
		e.merged[a] = complete(names)
	}
	for _, to := range e.ranges {
		for b, names := range to {
			to[b] = complete(names)
		}
	}
	return e
}

// complete returns the blobs of one merge of which all are there, or nil.
func complete(names []string) []string {
	sets := map[string][]string{}
	for _, name := range names {
		_, set, _ := strings.Cut(name, "-")
		sets[set] = append(sets[set], name)
		_, n, _ := strings.Cut(set, "-c")
		if strconv.Itoa(len(sets[set])) == n {
			return sets[set]
		}
	}
	return nil
}

// count returns the blobs that count: the three steps of that section.
func (e epochs) count() []string {
	var blobs []string
	next := 0
	for _, to := range e.chain(0) {
		blobs = append(blobs, e.ranges[next][to]...)
		next = to + 1
	}
	for n := next; n <= e.write+1; n++ {
		if merged := e.merged[n]; n <= e.write-2 && merged != nil {
			blobs = append(blobs, merged...)
		} else {
			blobs = append(blobs, e.added[n]...)
		}
	}
	return blobs
}

// chain returns the last epochs of the ranges in the chain from an epoch on.
func (e epochs) chain(from int) []int {
	var best []int
	for to, blobs := range e.ranges[from] {
		if blobs == nil {
			continue
		}
		c := append([]int{to}, e.chain(to+1)...)
		if best == nil {
			best = c
		}
		if end, old := c[len(c)-1], best[len(best)-1]; end > old || end == old && len(c) < len(best) {
			best = c
		}
	}
	return best
}
