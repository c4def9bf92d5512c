// Package ledger counts what a vault holds: of every backup what it needs, what it
// alone holds and what deleting it would give back, of every source the same, and
// what nobody needs any more; and what that costs.
//
// It is pure: whoever knows a vault hands it packs, the pieces in them, the objects
// that consist of pieces and the backups that consist of objects, all by number.
// Start reading at Ledger.
package ledger

import (
	"math/bits"
	"slices"

	"colorfast"
)

// Reading is what was read of a vault.
type Reading struct {
	*Ledger
	// Backups in the order of their numbers in the ledger.
	Backups []colorfast.Backup
	// Sources in the order of their numbers in the ledger.
	Sources []colorfast.Source
	// Unread are backups whose parts could not be told, because something of them is
	// damaged or missing, and why. What they hold counts as nobody's.
	Unread map[colorfast.BackupID]string
	// Blobs is all that lies in the storage, by what it is.
	Blobs []Kind
}

// Kind sums blobs of one kind.
type Kind struct {
	Name  string `json:"kind"` // "data", "metadata", "index" or "other"
	Blobs int64  `json:"blobs"`
	Bytes int64  `json:"bytes"`
}

// Ledger holds packs, pieces, objects and backups. It takes 16 bytes of memory for
// each piece, and for each object a bit for each backup.
type Ledger struct {
	short    int64
	packs    []pack
	pieces   []piece
	objects  []object
	parts    []uint32 // pieces of all objects, one object after the other
	sources  []int    // of each backup
	nsources int
}

type pack struct {
	length int64
	group  byte
}

type piece struct {
	pack, length uint32
	keep         bool // needed, whatever backups there are
}

type object struct {
	from, to int      // in parts
	users    []uint64 // a bit for each backup
}

// NewLedger returns an empty ledger. Packs with less than short bytes of living
// pieces are packed anew by the vault's maintenance, if there are two of a group.
func NewLedger(short int64) *Ledger { return &Ledger{short: short} }

// AddPack adds a pack of so many bytes and returns its number. Pieces of one group
// lie in packs of one group.
func (l *Ledger) AddPack(group byte, length int64) int {
	l.packs = append(l.packs, pack{length, group})
	return len(l.packs) - 1
}

// AddPiece adds a piece that takes so many bytes of a pack and returns its number.
// keep says that it is needed without a backup.
func (l *Ledger) AddPiece(pack int, length int64, keep bool) int {
	l.pieces = append(l.pieces, piece{uint32(pack), uint32(length), keep})
	return len(l.pieces) - 1
}

// AddObject adds an object, which consists of pieces, and returns its number.
func (l *Ledger) AddObject(pieces []int) int {
	o := object{from: len(l.parts)}
	for _, p := range pieces {
		l.parts = append(l.parts, uint32(p))
	}
	o.to = len(l.parts)
	l.objects = append(l.objects, o)
	return len(l.objects) - 1
}

// AddBackup adds a backup of a source, which is any number from 0 on, and returns
// its number.
func (l *Ledger) AddBackup(source int) int {
	l.sources = append(l.sources, source)
	l.nsources = max(l.nsources, source+1)
	return len(l.sources) - 1
}

// Use says that a backup needs an object.
func (l *Ledger) Use(backup, object int) {
	o := &l.objects[object]
	for len(o.users) <= backup/64 {
		o.users = append(o.users, 0)
	}
	o.users[backup/64] |= 1 << (backup % 64)
}

// Holding is what a backup, or all backups of a source, hold in a vault. All are
// bytes as they are stored, without what packs need beside their pieces.
type Holding struct {
	Full   int64 `json:"full_bytes"`   // all that is needed to restore
	Alone  int64 `json:"alone_bytes"`  // of that, what no other one needs
	Shared int64 `json:"shared_bytes"` // of that, what another one needs too
	// Freed is by how much the storage shrinks, after maintenance, if it is deleted.
	// It is less than Alone where that lies in packs that are mostly needed, and
	// more where such a deletion lets a whole pack go.
	Freed int64 `json:"freed_bytes"`
}

// OfBackups returns what each backup holds.
func (l *Ledger) OfBackups() []Holding {
	return l.holdings(len(l.sources), func(backup int) int { return backup })
}

// OfSources returns what the backups of each source hold together.
func (l *Ledger) OfSources() []Holding {
	return l.holdings(l.nsources, func(backup int) int { return l.sources[backup] })
}

// nobody and several mark pieces that have not one owner.
const (
	nobody  = -1
	several = -2
)

// holdings sums by owners, which groups of backups are.
func (l *Ledger) holdings(n int, owner func(backup int) int) []Holding {
	out := make([]Holding, n)
	owns := l.owners(owner)
	lost := make([]map[uint32]int64, n) // by pack: what goes with the owner
	for i, p := range l.pieces {
		if o := owns[i]; o >= 0 && !p.keep {
			out[o].Alone += int64(p.length)
			if lost[o] == nil {
				lost[o] = map[uint32]int64{}
			}
			lost[o][p.pack] += int64(p.length)
		}
	}
	l.full(out, owner)
	live := l.living(func(int) bool { return true })
	before := l.after(live)
	for o := range out {
		out[o].Shared = out[o].Full - out[o].Alone
		for p, n := range lost[o] {
			live[p] -= n
		}
		out[o].Freed = before - l.after(live)
		for p, n := range lost[o] {
			live[p] += n
		}
	}
	return out
}

// owners returns of each piece who needs it.
func (l *Ledger) owners(owner func(backup int) int) []int32 {
	owns := make([]int32, len(l.pieces))
	for i := range owns {
		owns[i] = nobody
	}
	for i := range l.objects {
		o := &l.objects[i]
		by := int32(nobody)
		for backup := range o.each() {
			by = join(by, int32(owner(backup)))
		}
		if by == nobody {
			continue
		}
		for _, p := range l.parts[o.from:o.to] {
			owns[p] = join(owns[p], by)
		}
	}
	return owns
}

// join returns who owns what a and b own.
func join(a, b int32) int32 {
	switch {
	case a == nobody || a == b:
		return b
	case b == nobody:
		return a
	}
	return several
}

// each iterates over the backups that need the object.
func (o *object) each() func(func(int) bool) {
	return func(yield func(int) bool) {
		for w, word := range o.users {
			for ; word != 0; word &= word - 1 {
				if !yield(w*64 + bits.TrailingZeros64(word)) {
					return
				}
			}
		}
	}
}

// full sums what each owner needs, each piece once.
func (l *Ledger) full(out []Holding, owner func(backup int) int) {
	// Most pieces are in one object: these are summed once for the object.
	times := make([]uint8, len(l.pieces))
	for i := range l.objects {
		for _, p := range distinct(l.parts[l.objects[i].from:l.objects[i].to]) {
			times[p] = min(times[p]+1, 2)
		}
	}
	seen := map[[2]uint32]bool{} // owner and piece, of pieces in several objects
	for i := range l.objects {
		o := &l.objects[i]
		var own int64
		var common []uint32
		for _, p := range distinct(l.parts[o.from:o.to]) {
			if times[p] == 1 {
				own += int64(l.pieces[p].length)
			} else {
				common = append(common, p)
			}
		}
		last := nobody
		done := map[int]bool{}
		for backup := range o.each() {
			by := owner(backup)
			if by == last || done[by] {
				continue
			}
			last, done[by] = by, true
			out[by].Full += own
			for _, p := range common {
				if key := [2]uint32{uint32(by), p}; !seen[key] {
					seen[key] = true
					out[by].Full += int64(l.pieces[p].length)
				}
			}
		}
	}
}

// distinct returns each piece once.
func distinct(parts []uint32) []uint32 {
	if len(parts) < 2 {
		return parts
	}
	s := slices.Clone(parts)
	slices.Sort(s)
	return slices.Compact(s)
}

// living returns for each pack the bytes of pieces that some backup of which keep is
// true needs.
func (l *Ledger) living(keep func(backup int) bool) []int64 {
	alive := make([]bool, len(l.pieces))
	for i := range l.objects {
		o := &l.objects[i]
		for backup := range o.each() {
			if keep(backup) {
				for _, p := range l.parts[o.from:o.to] {
					alive[p] = true
				}
				break
			}
		}
	}
	live := make([]int64, len(l.packs))
	for i, p := range l.pieces {
		if alive[i] || p.keep {
			live[p.pack] += int64(p.length)
		}
	}
	return live
}

// after returns the bytes of all packs when maintenance is done: packs without a
// living piece are gone, those with few are packed anew, and all others stay as
// they are (repo/maintenance of Kopia 0.22.3: DeleteUnreferencedPacks and
// findContentInShortPacks, which leaves a short pack alone if it is the only one of
// its group).
func (l *Ledger) after(live []int64) int64 {
	var short [256]int
	for i, n := range live {
		if n > 0 && n < l.short {
			short[l.packs[i].group]++
		}
	}
	var sum int64
	for i, n := range live {
		switch {
		case n == 0:
		case n < l.short && short[l.packs[i].group] > 1:
			sum += min(n, l.packs[i].length)
		default:
			sum += l.packs[i].length
		}
	}
	return sum
}

// Totals is what all packs hold. All are bytes.
type Totals struct {
	Packs  int64 `json:"pack_bytes"`   // of all packs
	Needed int64 `json:"needed_bytes"` // of pieces that backups need, and of the list of backups
	// Reclaimable is what maintenance will give back when it may: left over from
	// deleted and killed backups, or stored twice.
	Reclaimable int64 `json:"reclaimable_bytes"`
	// Held is what nobody needs, but lies in packs that are mostly needed; and what
	// packs need beside their pieces.
	Held int64 `json:"held_bytes"`
}

// Totals sums all packs.
func (l *Ledger) Totals() Totals {
	var t Totals
	live := l.living(func(int) bool { return true })
	for i, n := range live {
		t.Needed += n
		t.Packs += l.packs[i].length
	}
	rest := l.after(live)
	t.Reclaimable = t.Packs - rest
	t.Held = rest - t.Needed
	return t
}

// Change is what a choice of backups to delete would do. All are bytes.
type Change struct {
	Backups int   `json:"backups"` // deleted
	Unique  int64 `json:"unique_bytes"`
	Freed   int64 `json:"freed_bytes"`
}

// Without returns what deleting the backups of which deleted is true would do:
// Unique is what only they need, and Freed by how much the storage shrinks, after
// maintenance.
func (l *Ledger) Without(deleted func(backup int) bool) Change {
	var c Change
	for b := range l.sources {
		if deleted(b) {
			c.Backups++
		}
	}
	all := l.living(func(int) bool { return true })
	rest := l.living(func(b int) bool { return !deleted(b) })
	for i := range all {
		c.Unique += all[i] - rest[i]
	}
	c.Freed = l.after(all) - l.after(rest)
	return c
}
