package ops

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Manifest maps the paths in the bundle, with slashes, to what copy delivered there.
type Manifest map[string]Entry

// Entry is one delivered file.
type Entry struct {
	SHA256  string `json:"sha256"` // hexadecimal
	Size    int64  `json:"size"`
	ModTime int64  `json:"mtime"` // seconds since 1970, all that SFTP carries
	Time    int64  `json:"time"`  // of the delivery, in seconds since 1970
}

// Paths are the manifest's paths, sorted.
func (m Manifest) Paths() []string { return slices.Sorted(maps.Keys(m)) }

// LoadManifest gives what was delivered into the bundle so far.
func LoadManifest(b Bundle) (Manifest, error) {
	data, err := b.Manifest()
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	m := Manifest{}
	if len(data) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return m, nil
}

func (m Manifest) save(b Bundle) error {
	data, err := m.encoded()
	if err != nil {
		return err
	}
	return b.SaveManifest(data)
}

func (m Manifest) encoded() ([]byte, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return data, nil
}
