package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// maxNote bounds a note, in bytes.
const maxNote = 1 << 20

func (s *Spool) notePath() string { return filepath.Join(s.dir, "note") }

// SetNote keeps a small value, as JSON, in place of the one before. When it has returned without
// error the value is on the disk. It goes with the spool.
func (s *Spool) SetNote(value any) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("note in the spool: %w", err)
		}
	}()
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	next := s.notePath() + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, s.notePath()); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// Note reads what SetNote has kept; false when there is nothing.
func (s *Spool) Note(value any) (bool, error) {
	info, err := os.Stat(s.notePath())
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	var data []byte
	if err == nil {
		if info.Size() > maxNote {
			return false, fmt.Errorf("note in the spool %s: %d bytes are too many", s.notePath(), info.Size())
		}
		data, err = os.ReadFile(s.notePath())
	}
	if err == nil {
		err = json.Unmarshal(data, value)
	}
	if err != nil {
		return false, fmt.Errorf("note in the spool %s: %w", s.notePath(), err)
	}
	return true, nil
}
