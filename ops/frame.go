package ops

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Limits of a frame's JSON. The node is not trusted to keep to its own: a
// larger frame breaks the connection to the agent off.
const (
	maxToAgent   = 16 << 20
	maxFromAgent = 1 << 20
)

// frame is what the agent sends.
type frame struct {
	ID int `json:"id"`

	Hello *struct {
		Python     string `json:"python"`
		Executable string `json:"executable"`
	} `json:"hello"`

	FD       Stream   `json:"fd"`
	Lines    []string `json:"lines"`
	Progress *struct {
		What  string `json:"what"`
		Done  int64  `json:"done"`
		Total int64  `json:"total"`
		Unit  string `json:"unit"`
		Note  string `json:"note"`
	} `json:"progress"`

	Test *childTest `json:"test"`

	Status  *Status `json:"status"` // in the last frame of a request only
	Message string  `json:"message"`
	Hint    string  `json:"hint"`
	Code    *int    `json:"code"`
	Trace   string  `json:"trace"`
	// Lost: nothing was done, since the lock is not ours any more.
	Lost bool `json:"lost"`
	// Returned: the status is what the application's code returned.
	Returned bool `json:"returned"`

	Data json.RawMessage `json:"data"` // what was asked for, of a request that is no step
}

// appendFrame adds v as a frame to b.
func appendFrame(b []byte, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	body = asciiJSON(body)
	if len(body) > maxToAgent {
		return nil, fmt.Errorf("encode request: %d bytes are more than the agent takes (%d)", len(body), maxToAgent)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...), nil
}

// asciiJSON escapes what is not ASCII in valid JSON. Such runes are only in
// strings, where \u escapes are allowed.
func asciiJSON(body []byte) []byte {
	ascii := true
	for _, c := range body {
		if c >= 0x80 {
			ascii = false
			break
		}
	}
	if ascii {
		return body
	}
	out := make([]byte, 0, len(body)+len(body)/4)
	for _, r := range string(body) {
		switch {
		case r < 0x80:
			out = append(out, byte(r))
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		}
	}
	return out
}

// readFrame reads one frame. io.EOF only where the stream ends between frames.
func readFrame(r io.Reader) (*frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFromAgent {
		return nil, fmt.Errorf("the agent sent something that is no frame (% x): is something else writing to its output?", head)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read frame: %w", noEOF(err))
	}
	f := &frame{}
	if err := json.Unmarshal(body, f); err != nil {
		return nil, fmt.Errorf("the agent sent a frame that is not valid: %w", err)
	}
	return f, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
