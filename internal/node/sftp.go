package node

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Request is an SFTP request as the node got it. What a type does not have is zero.
type Request struct {
	Session int    // numbers the SFTP sessions of the node, from 1
	ID      uint32 // as the client chose it
	Type    byte   // SSH_FXP_…
	Name    string // of the type: "OPEN", "WRITE", …; of an extended request its own, like "posix-rename@openssh.com"
	Path    string // absolute; of a SYMLINK the target as it was sent
	Path2   string // of a request with two paths, absolute
	Handle  string // as the server gave it out, unique within the session
	Offset  uint64 // of READ and WRITE, in bytes
	Len     int    // of READ and WRITE, in bytes
}

// The request types of draft-ietf-secsh-filexfer-02, section 3.
const (
	typeInit     = 1
	typeExtended = 200
)

// kind says what the body of a request begins with, after the number.
type kind struct {
	name   string
	paths  int  // how many paths
	target bool // the first path is the target of a link: it is left as it is
	handle bool // a handle instead
	span   bool // then an offset and a length
}

var kinds = map[byte]kind{
	3:  {name: "OPEN", paths: 1},
	4:  {name: "CLOSE", handle: true},
	5:  {name: "READ", handle: true, span: true},
	6:  {name: "WRITE", handle: true, span: true},
	7:  {name: "LSTAT", paths: 1},
	8:  {name: "FSTAT", handle: true},
	9:  {name: "SETSTAT", paths: 1},
	10: {name: "FSETSTAT", handle: true},
	11: {name: "OPENDIR", paths: 1},
	12: {name: "READDIR", handle: true},
	13: {name: "REMOVE", paths: 1},
	14: {name: "MKDIR", paths: 1},
	15: {name: "RMDIR", paths: 1},
	16: {name: "REALPATH", paths: 1},
	17: {name: "STAT", paths: 1},
	18: {name: "RENAME", paths: 2},
	19: {name: "READLINK", paths: 1},
	20: {name: "SYMLINK", paths: 2, target: true}, // in OpenSSH's order: target, link
}

// extensions are the extended requests that the server knows.
var extensions = map[string]kind{
	"posix-rename@openssh.com": {paths: 2},
	"hardlink@openssh.com":     {paths: 2},
	"statvfs@openssh.com":      {paths: 1},
}

const (
	maxPacket = 1 << 20  // larger than any client sends
	maxHeader = 64 << 10 // of a request with paths, which is held as a whole
	headerLen = 9        // length, type and number
	peekLen   = 1 << 10  // holds a handle, an offset and a length
)

// serveSFTP serves an SFTP session until the client ends it.
func (n *Node) serveSFTP(channel ssh.Channel) {
	defer channel.Close()
	n.mu.Lock()
	n.number++
	r := &requests{
		Channel: channel,
		in:      bufio.NewReaderSize(channel, maxHeader),
		home:    n.Home,
		session: n.number,
		observe: n.observe,
	}
	n.mu.Unlock()
	server, err := sftp.NewServer(r, sftp.WithMaxTxPacket(256<<10))
	if err != nil {
		return
	}
	code := struct{ Code uint32 }{}
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		code.Code = 1
	}
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(&code))
}

// requests passes the client's packets on to the server, with every path made absolute. The server
// could do that itself, but would do it to the targets of symbolic links, too.
type requests struct {
	ssh.Channel
	in      *bufio.Reader
	home    string
	session int
	observe func(Request)

	ready []byte // of a packet that was changed, what is still to be read
	plain int    // of a packet that is passed on as it is, how much is still to be read
}

// Read implements io.Reader for the server.
func (r *requests) Read(p []byte) (int, error) {
	if len(r.ready) == 0 && r.plain == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	if len(r.ready) > 0 {
		n := copy(p, r.ready)
		r.ready = r.ready[n:]
		return n, nil
	}
	n, err := r.in.Read(p[:min(len(p), r.plain)])
	r.plain -= n
	return n, err
}

// next looks at the next packet. io.EOF means that there is none; in the middle of one it is
// io.ErrUnexpectedEOF.
func (r *requests) next() error {
	if _, err := r.in.Peek(1); err != nil {
		return err
	}
	head, err := r.peek(5)
	if err != nil {
		return err
	}
	length, kindOf := binary.BigEndian.Uint32(head), head[4]
	total := 4 + int(length)
	if length < 5 || length > maxPacket {
		return fmt.Errorf("sftp packet of %d bytes", length)
	}
	k, known := kinds[kindOf]
	switch {
	case kindOf == typeExtended:
	case kindOf == typeInit || !known:
		r.plain = total
		return nil
	case k.handle:
		r.plain = total
		return r.note(kindOf, k, min(total, peekLen))
	}
	if total > maxHeader {
		return fmt.Errorf("sftp request of type %d with %d bytes", kindOf, length)
	}
	packet := make([]byte, total)
	if _, err := io.ReadFull(r.in, packet); err != nil {
		return whole(err)
	}
	return r.rewrite(kindOf, k, packet)
}

// note observes a request with a handle, of which the first n bytes are looked at.
func (r *requests) note(kindOf byte, k kind, n int) error {
	if r.observe == nil {
		return nil
	}
	head, err := r.peek(n)
	if err != nil {
		return err
	}
	b := body(head[headerLen:])
	q := Request{Session: r.session, ID: binary.BigEndian.Uint32(head[5:]), Type: kindOf, Name: k.name}
	if q.Handle, err = b.text(); err != nil {
		return err
	}
	if k.span {
		if len(b) < 12 {
			return io.ErrUnexpectedEOF
		}
		q.Offset, q.Len = binary.BigEndian.Uint64(b), int(binary.BigEndian.Uint32(b[8:]))
	}
	r.observe(q)
	return nil
}

// rewrite makes the paths of a request absolute, and observes it.
func (r *requests) rewrite(kindOf byte, k kind, packet []byte) error {
	if len(packet) < headerLen {
		return io.ErrUnexpectedEOF
	}
	b := body(packet[headerLen:])
	q := Request{Session: r.session, ID: binary.BigEndian.Uint32(packet[5:]), Type: kindOf, Name: k.name}
	out := append([]byte{}, packet[:headerLen]...)
	var err error
	if kindOf == typeExtended {
		if q.Name, err = b.text(); err != nil {
			return err
		}
		k = extensions[q.Name]
		out = appendText(out, q.Name)
	}
	paths := []*string{&q.Path, &q.Path2}
	for i := range k.paths {
		p, err := b.text()
		if err != nil {
			return err
		}
		if i > 0 || !k.target {
			p = r.absolute(p)
		}
		*paths[i] = p
		out = appendText(out, p)
	}
	out = append(out, b...)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	if r.observe != nil {
		r.observe(q)
	}
	r.ready = out
	return nil
}

// absolute resolves a path from the home folder. It keeps a slash at the end, which asks for a folder.
func (r *requests) absolute(p string) string {
	switch {
	case path.IsAbs(p):
		return p
	case p == "":
		return r.home
	}
	return r.home + "/" + p
}

// peek returns the next n bytes without taking them.
func (r *requests) peek(n int) ([]byte, error) {
	b, err := r.in.Peek(n)
	return b, whole(err)
}

// whole turns the end of the stream into an error, for use inside a packet.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// body is what is left of a packet.
type body []byte

// text takes a string off the front: four bytes of length, then the bytes.
func (b *body) text() (string, error) {
	if len(*b) < 4 {
		return "", io.ErrUnexpectedEOF
	}
	n := binary.BigEndian.Uint32(*b)
	if uint64(n) > uint64(len(*b)-4) {
		return "", io.ErrUnexpectedEOF
	}
	s := string((*b)[4 : 4+n])
	*b = (*b)[4+n:]
	return s, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
