package sftpwire

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// packet is a packet of a server.
func packet(typ byte, fields ...[]byte) []byte {
	p := []byte{0, 0, 0, 0, typ}
	for _, f := range fields {
		p = append(p, f...)
	}
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	return p
}

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func str(s string) []byte { return appendString(nil, s) }

// version greets with extensions, name and data in turn.
func version(extensions ...string) []byte {
	fields := [][]byte{u32(3)}
	for _, e := range extensions {
		fields = append(fields, str(e))
	}
	return packet(typeVersion, fields...)
}

// statusOf answers a request.
func statusOf(id, code uint32, message string) []byte {
	return packet(typeStatus, u32(id), u32(code), str(message), str("en"))
}

// fakeServer greets with hello and answers each request by what reply returns;
// nothing, if that is nil. It ends with the channel.
func fakeServer(t *testing.T, hello []byte, reply func(id uint32, typ byte, body []byte) []byte) io.ReadWriteCloser {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	t.Cleanup(func() { ours.Close(); theirs.Close(); <-done })
	go func() {
		defer close(done)
		defer theirs.Close()
		if _, _, err := readPacket(theirs); err != nil {
			return
		}
		if _, err := theirs.Write(hello); err != nil {
			return
		}
		for {
			typ, body, err := readPacket(theirs)
			if err != nil {
				return
			}
			id, body, err := takeUint32(body)
			if err != nil {
				return
			}
			if _, err := theirs.Write(reply(id, typ, body)); err != nil {
				return
			}
		}
	}()
	return ours
}
