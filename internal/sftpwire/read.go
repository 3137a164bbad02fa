package sftpwire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	typeRead = 5
	typeData = 103
)

// ReadRequest is a read that was sent.
type ReadRequest struct {
	c    <-chan reply
	most int
}

// Wait returns the data, of which there may be less than was asked for, [io.EOF]
// behind the end of the file, or the context's error when that ends first.
func (r ReadRequest) Wait(ctx context.Context) ([]byte, error) {
	p, err := wait(ctx, r.c)
	if err != nil {
		return nil, err
	}
	switch p.typ {
	case typeData:
		n, b, err := takeUint32(p.body)
		switch {
		case err != nil:
			return nil, err
		case uint64(n) > uint64(len(b)) || int(n) > r.most:
			return nil, fmt.Errorf("sftp: %d bytes in a reply that has %d, %d were asked for", n, len(b), r.most)
		case n == 0:
			return nil, errors.New("sftp: reply without data") // it could go on for ever
		}
		return b[:n:n], nil
	case typeStatus:
		err := parseStatus(p.body)
		var status *StatusError
		if errors.As(err, &status) && status.Code == statusEOF {
			return nil, io.EOF
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("sftp: reply of type %d instead of data", p.typ)
}

// SendRead reads up to n bytes, at least one, at an offset.
func (s *Session) SendRead(handle string, off uint64, n int) ReadRequest {
	b := appendString(nil, handle)
	b = binary.BigEndian.AppendUint64(b, off)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return ReadRequest{s.send(typeRead, b, nil), n}
}
