package pickle

// The opcodes of pickle protocols 2 to 5 that Chroma's files have, as in
// CPython's Lib/pickle.py. All else is refused, REDUCE, EXT and PERSID among it.
const (
	opMark            = '('
	opStop            = '.'
	opBinInt          = 'J'
	opBinInt1         = 'K'
	opBinInt2         = 'M'
	opNone            = 'N'
	opBinUnicode      = 'X'
	opAppend          = 'a'
	opBuild           = 'b'
	opGlobal          = 'c'
	opAppends         = 'e'
	opBinGet          = 'h'
	opLongBinGet      = 'j'
	opBinPut          = 'q'
	opLongBinPut      = 'r'
	opSetItem         = 's'
	opTuple           = 't'
	opEmptyTuple      = ')'
	opSetItems        = 'u'
	opBinBytes        = 'B'
	opShortBinBytes   = 'C'
	opBinFloat        = 'G'
	opEmptyList       = ']'
	opEmptyDict       = '}'
	opProto           = 0x80
	opNewObj          = 0x81
	opTuple1          = 0x85
	opTuple2          = 0x86
	opTuple3          = 0x87
	opNewTrue         = 0x88
	opNewFalse        = 0x89
	opLong1           = 0x8a
	opLong4           = 0x8b
	opShortBinUnicode = 0x8c
	opBinUnicode8     = 0x8d
	opStackGlobal     = 0x93
	opMemoize         = 0x94
	opFrame           = 0x95
)

// width gives the bytes of the operand that follows an opcode: a number, or
// the length of what comes next.
var width = [256]int64{
	opBinInt: 4, opBinInt1: 1, opBinInt2: 2, opBinUnicode: 4, opShortBinUnicode: 1, opBinUnicode8: 8,
	opBinGet: 1, opLongBinGet: 4, opBinPut: 1, opLongBinPut: 4, opBinBytes: 4, opShortBinBytes: 1,
	opLong1: 1, opLong4: 4, opFrame: 8,
}

// step executes the opcode op, which stands at off.
func (m *machine) step(op byte, off int64) error {
	arg, err := m.uint(width[op])
	if err != nil {
		return err
	}
	switch op {
	case opShortBinUnicode, opBinUnicode, opBinUnicode8:
		return m.pushText(off, arg)
	case opBinInt:
		return m.push(value{kind: integer, off: off, num: int64(int32(arg))})
	case opBinInt1, opBinInt2:
		return m.push(value{kind: integer, off: off, num: int64(arg)})
	case opLong1, opLong4:
		return m.pushLong(off, int64(arg))
	case opBinGet, opLongBinGet:
		return m.recall(off, arg)
	case opMemoize:
		return m.memoize(off, uint64(len(m.memo)))
	case opBinPut, opLongBinPut:
		return m.memoize(off, arg)
	case opMark:
		if len(m.marks) >= maxStack {
			return m.corrupt(off, "more than %d groups in each other", maxStack)
		}
		m.marks = append(m.marks, len(m.stack))
	case opEmptyDict:
		return m.pushDict(off)
	case opSetItem:
		return m.setItem(off)
	case opSetItems:
		return m.setItems(off)
	case opNone:
		return m.push(value{kind: none, off: off})
	case opFrame:
		if arg > uint64(m.left()) {
			return m.short(m.size)
		}
	case opGlobal, opStackGlobal, opEmptyTuple, opNewObj, opBuild:
		return m.stepObject(op, off)
	default:
		return m.stepOpaque(op, off, int64(arg))
	}
	return nil
}

// stepObject executes the opcodes that make the one object of Python's form.
func (m *machine) stepObject(op byte, off int64) error {
	n := len(m.stack)
	switch op {
	case opEmptyTuple:
		return m.push(value{kind: emptyTuple, off: off})
	case opGlobal:
		module, err := m.line(maxKept)
		if err != nil {
			return err
		}
		name, err := m.line(maxKept)
		if err != nil {
			return err
		}
		return m.pushClass(off, module, name)
	case opStackGlobal:
		if n != 2 || len(m.marks) > 0 || !m.stack[0].kept || !m.stack[1].kept {
			return m.corrupt(off, "a class without a name")
		}
		module, name := m.stack[0].str, m.stack[1].str
		m.stack = m.stack[:0]
		return m.pushClass(off, module, name)
	case opNewObj:
		if n != 2 || len(m.marks) > 0 || m.stack[0].kind != class || m.stack[1].kind != emptyTuple {
			return m.corrupt(off, "an object that is not the one that Chroma writes")
		}
		m.stack = append(m.stack[:0], value{kind: object, off: off})
		m.info.Form = Python
	case opBuild:
		if n != 2 || len(m.marks) > 0 || m.stack[0].kind != object || m.stack[1].role != state {
			return m.corrupt(off, "an object with a state that is not the one that Chroma writes")
		}
		m.stack = append(m.stack[:0], value{kind: built, off: off})
	}
	return nil
}

// pushClass pushes the one class that is known.
func (m *machine) pushClass(off int64, module, name string) error {
	if module != moduleName || name != className {
		return m.corrupt(off, "class %.64q of module %.64q is not Chroma's", name, module)
	}
	if len(m.stack) != 0 {
		return m.corrupt(off, "a class inside of a value")
	}
	return m.push(value{kind: class, off: off})
}

// stepOpaque executes the opcodes of values that nothing is done with. They
// come under keys that no known Chroma writes.
func (m *machine) stepOpaque(op byte, off, arg int64) error {
	v := value{kind: opaque, off: off}
	n := 0 // values that go into v
	switch op {
	case opNewTrue, opNewFalse, opEmptyList:
	case opBinFloat:
		if err := m.skip(8); err != nil {
			return err
		}
	case opShortBinBytes, opBinBytes:
		if err := m.skip(arg); err != nil {
			return err
		}
	case opTuple1, opTuple2, opTuple3:
		n = int(op-opTuple1) + 1
	case opTuple, opAppends:
		if len(m.marks) == 0 {
			return m.corrupt(off, "the end of a group that did not begin")
		}
		n = len(m.stack) - m.marks[len(m.marks)-1]
		m.marks = m.marks[:len(m.marks)-1]
		if op == opAppends {
			n++ // the list, which v then stands for
		}
	case opAppend:
		n = 2
	default:
		return m.corrupt(off, "opcode 0x%02x is not one that Chroma writes", op)
	}
	h, _ := m.base()
	if len(m.stack)-h < n {
		return m.corrupt(off, "opcode 0x%02x without its values", op)
	}
	for i := len(m.stack) - n; i < len(m.stack); i++ {
		if k := m.stack[i].kind; k == dict && m.stack[i].role != other || k == object || k == class || k == built {
			return m.corrupt(m.stack[i].off, "the maps of ids are not where they belong")
		}
	}
	m.stack = m.stack[:len(m.stack)-n]
	return m.push(v)
}

// setItem ends an entry of the dict below it.
func (m *machine) setItem(off int64) error {
	h, _ := m.base()
	n := len(m.stack)
	if n-h < 3 || m.stack[n-3].kind != dict {
		return m.corrupt(off, "an entry without a dict")
	}
	m.stack = m.stack[:n-2]
	return m.entry(m.stack[n-3].role, &m.stack[:n][n-2], &m.stack[:n][n-1])
}

// setItems ends a group of entries.
func (m *machine) setItems(off int64) error {
	if err := m.settle(); err != nil {
		return err
	}
	h, d := m.base()
	if d == nil || (len(m.stack)-h)%2 != 0 {
		return m.corrupt(off, "a group of entries without a dict, or with half an entry")
	}
	group := m.stack[h:]
	m.stack, m.marks = m.stack[:h], m.marks[:len(m.marks)-1]
	for i := 0; i < len(group); i += 2 {
		if err := m.entry(d.role, &group[i], &group[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// pushLong reads an integer of n bytes, two's complement, and pushes it. What
// does not fit into 64 bits is a value of no interest.
func (m *machine) pushLong(off, n int64) error {
	if n > 8 {
		if err := m.skip(n); err != nil {
			return err
		}
		return m.push(value{kind: opaque, off: off})
	}
	u, err := m.uint(n)
	if err != nil {
		return err
	}
	shift := 64 - 8*uint(n)
	return m.push(value{kind: integer, off: off, num: int64(u<<shift) >> shift})
}

// textAt returns where the bytes of the string whose opcode is at off are, and
// how many. They were read before.
func (m *machine) textAt(off int64) (start int64, n uint64, err error) {
	b, err := m.again(off, min(9, m.size-off))
	if err != nil {
		return 0, 0, err
	}
	w := width[b[0]]
	for i := min(w, int64(len(b))-1); i > 0; i-- {
		n = n<<8 | uint64(b[i])
	}
	if n > MaxIDLength {
		return 0, 0, m.corrupt(off, "the file changed while it was read")
	}
	return off + 1 + w, n, nil
}
