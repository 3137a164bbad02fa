package vfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// recordKind is what a record of the journal tells. The numbers are written to
// disk: never reuse one.
type recordKind byte

const (
	recBase    recordKind = 1  // an inode that is on the node: Ino, its place Parent/Name, Attr
	recMake    recordKind = 2  // a new inode: Ino, Parent/Name, Attr, Target of a link
	recLink    recordKind = 3  // one more name: Ino, Parent/Name
	recUnlink  recordKind = 4  // a name removed, of a file or folder: Parent/Name
	recRename  recordKind = 5  // Parent/Name became Parent2/Name2
	recAttr    recordKind = 6  // Ino has Attr now, of which Mask is to be sent
	recWrite   recordKind = 7  // Ino: bytes Off to Off+Len are Data, or in the spool if that is empty; Attr as it was then
	recCut     recordKind = 8  // Ino was cut or extended to Attr.Size
	recPlaced  recordKind = 9  // done on the node: Parent/Name is Ino's now, nobody's if 0; Parent2/Name2, if given, is nobody's
	recSent    recordKind = 10 // done on the node: content and attributes of Ino as of change Seq
	recSpooled recordKind = 11 // Ino: what earlier records held as Data is in the spool now
	recIntent  recordKind = 12 // asked of the node, an action of kind Mask: Parent/Name becomes Ino's, nobody's if 0; Parent2/Name2, if given, nobody's
	recNode    recordKind = 13 // an inode: Ino, Attr, Target, Mask is to be sent, Off bytes are as on the node, which is to be cut to Len-1 if that is not less than 0
	recLearnt  recordKind = 14 // Ino is as on the node, which has changed it: Attr
)

// record is one entry of the journal; kinds leave fields they do not need zero.
type record struct {
	Kind    recordKind
	Seq     uint64 // number of the change
	Ino     Ino
	Parent  Ino
	Name    string
	Parent2 Ino
	Name2   string
	Off     int64
	Len     int64
	Mask    attrMask
	Attr    Attr
	Target  string
	Data    []byte // shares memory with the payload after decoding
}

// encode makes the payload of a record.
func (r *record) encode() []byte { return r.appendTo(make([]byte, 0, r.room())) }

// room is about how many bytes it takes.
func (r *record) room() int { return 64 + len(r.Name) + len(r.Name2) + len(r.Target) + len(r.Data) }

// appendTo writes all fields in order, numbers as varints: most are zero.
func (r *record) appendTo(b []byte) []byte {
	b = append(b, byte(r.Kind))
	for _, v := range [...]uint64{r.Seq, uint64(r.Ino), uint64(r.Parent), uint64(r.Parent2), uint64(r.Off), uint64(r.Len), uint64(r.Mask)} {
		b = binary.AppendUvarint(b, v)
	}
	a := &r.Attr
	for _, v := range [...]uint64{uint64(a.Mode), uint64(a.UID), uint64(a.GID), a.Size} {
		b = binary.AppendUvarint(b, v)
	}
	for _, v := range [...]int64{a.Atime, a.Mtime, a.Ctime} {
		b = binary.AppendVarint(b, v)
	}
	for _, s := range [...]string{r.Name, r.Name2, r.Target} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return append(b, r.Data...)
}

var errBadRecord = errors.New("malformed record")

// decodeRecord reads what encode wrote.
func decodeRecord(b []byte) (record, error) {
	var r record
	if len(b) == 0 {
		return r, errBadRecord
	}
	r.Kind = recordKind(b[0])
	if r.Kind < recBase || r.Kind > recLearnt {
		return r, fmt.Errorf("%w: kind %d", errBadRecord, b[0])
	}
	b = b[1:]
	ok := true
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			ok, b = false, nil
			return 0
		}
		b = b[n:]
		return v
	}
	signed := func() int64 {
		v, n := binary.Varint(b)
		if n <= 0 {
			ok, b = false, nil
			return 0
		}
		b = b[n:]
		return v
	}
	text := func() string {
		n := number()
		if n > uint64(len(b)) {
			ok = false
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	r.Seq, r.Ino, r.Parent, r.Parent2 = number(), Ino(number()), Ino(number()), Ino(number())
	r.Off, r.Len, r.Mask = int64(number()), int64(number()), attrMask(number())
	r.Attr = Attr{Ino: r.Ino, Mode: uint32(number()), UID: uint32(number()), GID: uint32(number()), Size: number()}
	r.Attr.Atime, r.Attr.Mtime, r.Attr.Ctime = signed(), signed(), signed()
	r.Name, r.Name2, r.Target = text(), text(), text()
	r.Data = b
	if !ok || r.Off < 0 || r.Len < 0 || len(b) > 0 && (r.Kind != recWrite || int64(len(b)) != r.Len) {
		return record{}, errBadRecord
	}
	return r, nil
}

// scratchMost is how much memory is kept for the next records, in bytes.
const scratchMost = 256 << 10

// note writes records of one change, all or none, before the change is made: what
// is acknowledged is in the journal. Inodes on the node that the journal does
// not tell of yet, those with the names in about, are told of first. mu is held.
func (x *Exclusive) note(about []*dentry, records ...*record) error {
	if err := x.payOwed(); err != nil {
		return err
	}
	var payloads [][]byte
	var told, learnt []*xnode
	for _, d := range about {
		payloads, told = x.introduce(payloads, told, d)
		if n := d.remote; n != nil && n.learnt {
			payloads = append(payloads, (&record{Kind: recLearnt, Ino: n.ino, Attr: n.attr}).encode())
			learnt = append(learnt, n)
			n.learnt = false
		}
	}
	keep := x.keep
	for _, p := range payloads {
		keep += tellBytes(p, 0)
	}
	scratch := x.scratch[:0] // what is appended to the journal is not kept
	for _, r := range records {
		start := len(scratch)
		scratch = r.appendTo(slices.Grow(scratch, r.room()))
		p := scratch[start:]
		keep += tellBytes(p, len(r.Data))
		payloads = append(payloads, p)
	}
	if cap(scratch) <= scratchMost {
		x.scratch = scratch
	}
	err := x.withRoom(func() error { return x.spool.AppendKeeping(keep+tellFactor*keepLeast, payloads...) })
	if err == nil {
		x.keep = keep
	} else {
		for _, n := range told {
			n.generation = 0
		}
		for _, n := range learnt {
			n.learnt = true
		}
	}
	return err
}

// introduce adds the records of who has the name d on the node, and of the
// folders above. An inode is told of once in a journal, at a moment when it is
// here where it is on the node. mu is held.
func (x *Exclusive) introduce(payloads [][]byte, told []*xnode, d *dentry) ([][]byte, []*xnode) {
	n := d.remote
	if n == nil {
		n = d.parent // the name is new, its folder may not be
	}
	if n.ino == RootIno || n.generation == x.generation {
		return payloads, told
	}
	n.generation = x.generation
	told = append(told, n)
	for _, p := range n.places {
		if p.parent.ino != RootIno && p.parent.generation != x.generation {
			for _, above := range p.parent.places {
				payloads, told = x.introduce(payloads, told, above)
			}
		}
		r := record{Kind: recBase, Ino: n.ino, Parent: p.parent.ino, Name: p.name, Attr: n.attr, Target: n.target}
		payloads = append(payloads, r.encode())
	}
	return payloads, told
}
