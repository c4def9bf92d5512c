package pickle

import (
	"hash/maphash"
	"math"
	"unicode/utf8"
)

// The class that Python-era Chroma pickles an instance of.
const (
	className  = "PersistentData"
	moduleName = "chromadb.segment.impl.vector.local_persistent_hnsw"
)

// Limits on what is kept while decoding. Python and serde_pickle write
// containers in groups of 1000 items, so real pickles stay far below.
const (
	maxStack = 16 << 10 // values on the stack
	maxKept  = 256      // bytes of a string that is not an id and may be a name
)

// kind is the type of a value on the stack.
type kind uint8

const (
	none kind = iota
	integer
	text
	opaque // well-formed and of no interest: bool, float, bytes, list, tuple
	dict
	class
	object
	built // an object with its state
	emptyTuple
)

// role is what a dict is for.
type role uint8

const (
	other role = iota // of an unknown key
	state             // the outermost dict, whose keys are the known names
	idToLabel
	labelToID
	idToSeqID
)

// flat reports whether the values of such a dict are no containers, so that
// its entries can be taken as they come.
func (r role) flat() bool { return r >= idToLabel }

// roles names the dicts that are known.
var roles = map[string]role{"id_to_label": idToLabel, "label_to_id": labelToID, "id_to_seq_id": idToSeqID}

// value is one value on the stack.
type value struct {
	kind kind
	role role   // of a dict
	kept bool   // str is the whole string
	str  string // of a text, if kept
	off  int64  // of its opcode; for a string out of the memo, of the opcode that memoized it
	num  int64  // of an integer
	hash uint64 // of a text
}

// memo is a memoized value. Of a string only the place is kept.
type memo struct {
	off  int64  // of the string's opcode; -1-kind for a value that is no string
	hash uint64 // of the string
}

// machine is the part of Python's pickle machine that Chroma's files use.
//
// A dict is never built. Its opcode pushes a value that knows its role, and
// its entries are handed to entry: for the big dicts, whose values are scalars,
// as soon as the next key begins; for others when their group ends, because
// only then it is known which dict a key belongs to (SETITEM follows its key).
type machine struct {
	*reader
	fn    func(id string, label uint64) error
	seed  maphash.Seed
	stack []value
	marks []int // heights of the stack at every open MARK
	memo  []memo
	have  map[string]bool // keys of the state
	info  Info

	forward, reverse uint64 // sums of the hashes of the pairs
}

func newMachine(r *reader, fn func(id string, label uint64) error) *machine {
	return &machine{
		reader: r, fn: fn, seed: maphash.MakeSeed(), have: map[string]bool{},
		info: Info{Form: Rust, MaxSeqID: -1},
	}
}

// run decodes the whole file.
func (m *machine) run() error {
	b, err := m.next(2)
	switch {
	case err != nil:
		return err
	case b[0] != opProto:
		return m.corrupt(0, "not a pickle of protocol 2 or later: it starts with 0x%02x", b[0])
	case b[1] < 2 || b[1] > 5:
		return m.corrupt(1, "pickle protocol %d is not one that Chroma writes", b[1])
	}
	for {
		off := m.offset()
		op, err := m.byte()
		if err != nil {
			return err
		}
		if op == opStop {
			return m.stop(off)
		}
		if err := m.step(op, off); err != nil {
			return err
		}
	}
}

// stop checks what is left at the end.
func (m *machine) stop(off int64) error {
	if len(m.stack) != 1 || len(m.marks) != 0 {
		return m.corrupt(off, "the pickle stops in the middle of a value")
	}
	if v := &m.stack[0]; v.kind != built && (v.kind != dict || v.role != state) {
		return m.corrupt(off, "the pickle is not a map of ids")
	}
	for _, key := range []string{"total_elements_added", "id_to_label", "label_to_id"} {
		if !m.have[key] {
			return m.corrupt(off, "the pickle has no %s", key)
		}
	}
	if m.left() != 0 {
		return m.corrupt(m.offset(), "%d bytes follow the end of the pickle", m.left())
	}
	m.info.ReverseMatches = m.info.IDs == m.info.Labels && m.forward == m.reverse
	return nil
}

// base returns the height of the stack at the innermost MARK, and the dict that
// the values above it go into, nil if that is none.
func (m *machine) base() (int, *value) {
	if len(m.marks) == 0 {
		return 0, nil
	}
	h := m.marks[len(m.marks)-1]
	if h == 0 || m.stack[h-1].kind != dict {
		return h, nil
	}
	return h, &m.stack[h-1]
}

// settle hands the entry that is complete on top of the stack, if any, to its
// flat dict. It runs before a value is pushed and before a group ends.
func (m *machine) settle() error {
	h, d := m.base()
	if d == nil || !d.role.flat() || len(m.stack)-h < 2 {
		return nil
	}
	key, val := &m.stack[h], &m.stack[h+1]
	m.stack = m.stack[:h]
	return m.entry(d.role, key, val)
}

// push puts v on the stack.
func (m *machine) push(v value) error {
	if err := m.settle(); err != nil {
		return err
	}
	if len(m.stack) >= maxStack {
		return m.corrupt(v.off, "more than %d values in one group", maxStack)
	}
	m.stack = append(m.stack, v)
	return nil
}

// pushText reads the n bytes of the string whose opcode is at off, and pushes it.
func (m *machine) pushText(off int64, n uint64) error {
	if n > MaxIDLength {
		return m.corrupt(off, "a string of %d bytes is longer than %d", n, MaxIDLength)
	}
	if err := m.settle(); err != nil {
		return err
	}
	b, err := m.next(int64(n))
	if err != nil {
		return err
	}
	if !utf8.Valid(b) {
		return m.corrupt(off, "a string is not UTF-8")
	}
	v := value{kind: text, off: off, hash: maphash.Bytes(m.seed, b)}
	if m.keeps(n) {
		v.str, v.kept = string(b), true
	}
	return m.push(v)
}

// keeps reports whether a string of n bytes is needed as itself, if it is
// pushed now: it may be a name, or a key of id_to_label.
func (m *machine) keeps(n uint64) bool {
	h, d := m.base()
	switch {
	case d != nil && d.role.flat():
		return d.role == idToLabel && len(m.stack) == h
	case len(m.stack) > 0 && m.stack[len(m.stack)-1].role == idToLabel:
		return true // its only entry, with SETITEM
	}
	return n <= maxKept
}

// pushDict pushes an empty dict, whose role follows from what is below it.
func (m *machine) pushDict(off int64) error {
	v := value{kind: dict, off: off}
	n := len(m.stack)
	switch h, d := m.base(); {
	case n == 0, n == 1 && m.stack[0].kind == object:
		v.role = state
	case d != nil && d.role == state && (n-h)%2 == 1,
		d == nil && n > 1 && m.stack[n-2].role == state:
		v.role = roles[m.stack[n-1].str]
	}
	return m.push(v)
}

// memoize remembers the value on top of the stack as number i. The numbers of a
// real pickle go up by one.
func (m *machine) memoize(off int64, i uint64) error {
	if len(m.stack) == 0 || i > uint64(len(m.memo)) {
		return m.corrupt(off, "memo %d of %d is out of order", i, len(m.memo))
	}
	v := &m.stack[len(m.stack)-1]
	e := memo{off: v.off, hash: v.hash}
	if v.kind != text {
		e.off = -1 - int64(v.kind)
	}
	if i == uint64(len(m.memo)) {
		m.memo = append(m.memo, e)
	} else {
		m.memo[i] = e
	}
	return nil
}

// recall pushes the memoized value i.
func (m *machine) recall(off int64, i uint64) error {
	if i >= uint64(len(m.memo)) {
		return m.corrupt(off, "memo %d of %d is used before it is set", i, len(m.memo))
	}
	if err := m.settle(); err != nil {
		return err
	}
	e := m.memo[i]
	if e.off < 0 {
		v := value{kind: kind(-1 - e.off), off: off}
		if v.kind != emptyTuple && v.kind != class {
			v.kind = opaque // a second reference to a container, which is never one that matters
		}
		return m.push(v)
	}
	v := value{kind: text, off: e.off, hash: e.hash}
	if m.keeps(0) {
		start, n, err := m.textAt(e.off)
		if err != nil {
			return err
		}
		if m.keeps(n) {
			b, err := m.again(start, int64(n))
			if err != nil {
				return err
			}
			v.str, v.kept = string(b), true
		}
	}
	return m.push(v)
}

// entry takes one entry of a dict.
func (m *machine) entry(r role, key, val *value) error {
	switch r {
	case idToLabel:
		if key.kind != text || !key.kept || val.kind != integer || val.num < 0 {
			return m.corrupt(key.off, "id_to_label has an entry that is not an id and its label")
		}
		m.info.IDs++
		m.forward += pairHash(key.hash, val.num)
		return m.fn(key.str, uint64(val.num))
	case labelToID:
		if key.kind != integer || key.num < 0 || val.kind != text {
			return m.corrupt(key.off, "label_to_id has an entry that is not a label and its id")
		}
		m.info.Labels++
		m.reverse += pairHash(val.hash, key.num)
	case idToSeqID:
		if key.kind != text {
			return m.corrupt(key.off, "id_to_seq_id has a key that is not an id")
		}
	case state:
		return m.attribute(key, val)
	}
	if val.kind == dict && val.role.flat() {
		return m.corrupt(val.off, "the maps of ids are not where they belong")
	}
	return nil
}

// attribute takes one entry of the outermost dict.
func (m *machine) attribute(key, val *value) error {
	if key.kind != text {
		return m.corrupt(key.off, "the outermost dict has a key that is not a string")
	}
	want := true
	switch key.str {
	case "dimensionality":
		want = val.kind == none || val.kind == integer && val.num >= 0 && val.num <= math.MaxInt32
		m.info.Dimensionality = int(val.num)
	case "total_elements_added":
		want = val.kind == integer && val.num >= 0
		m.info.TotalElementsAdded = val.num
	case "max_seq_id":
		want = val.kind == none || val.kind == integer && val.num >= 0
		if val.kind == integer {
			m.info.MaxSeqID = val.num
		}
	case "id_to_label", "label_to_id":
		want = val.kind == dict && val.role == roles[key.str]
	case "id_to_seq_id":
		// Read by nobody since Chroma 0.4; whatever it is will do.
	default:
		if val.kind == dict && val.role != other {
			return m.corrupt(val.off, "the maps of ids are not where they belong")
		}
		return nil
	}
	if !want {
		return m.corrupt(val.off, "%s has a value of the wrong type", key.str)
	}
	if m.have[key.str] {
		return m.corrupt(key.off, "%s is there twice", key.str)
	}
	m.have[key.str] = true
	return nil
}

// pairHash returns a hash of an id, given by its hash, and a label. The mixing
// is MurmurHash3's fmix64, so that sums of pairs tell which belongs to which.
func pairHash(id uint64, label int64) uint64 {
	x := id + uint64(label)*0x9e3779b97f4a7c15
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
