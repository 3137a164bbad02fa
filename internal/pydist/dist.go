package pydist

import (
	"archive/tar"
	"archive/zip"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Dist is a distribution: a wheel or an sdist.
type Dist struct {
	File    string // as Read was given it
	Name    string // normalized
	Version string
	Tags    []Tag // of a wheel

	// Known tells whether the metadata could be read; else there is only what the file's name tells.
	Known          bool
	Requires       []Requirement
	RequiresPython string // versions; "" for any

	// Of an sdist: whether building it may change Requires.
	Dynamic bool
	// Of an sdist: what its pyproject.toml says that building needs; nil when it says nothing.
	BuildRequires []Requirement
	// Of an sdist: setuptools builds it.
	Setuptools bool
}

// Wheel tells whether it is a wheel, else it is an sdist.
func (d *Dist) Wheel() bool { return len(d.Tags) > 0 }

// Pure tells whether it is a wheel for every platform and ABI.
func (d *Dist) Pure() bool {
	return d.Wheel() && !slices.ContainsFunc(d.Tags, func(t Tag) bool { return t.ABI != "none" || t.Platform != "any" })
}

// Base is the file's name.
func (d *Dist) Base() string { return filepath.Base(d.File) }

// Limits on what is read of a file, so that a broken one cannot take all memory or time.
const (
	maxMetadata = 4 << 20
	maxUnpacked = 2 << 30 // of an sdist that is searched
)

// Read reads a distribution's name and metadata. When the name is right and the
// metadata are not, there is a Dist without them beside the error.
func Read(file string) (*Dist, error) {
	d := &Dist{File: file}
	var err error
	if IsWheel(file) {
		if d.Name, d.Version, d.Tags, err = wheelName(file); err == nil {
			err = d.readWheel()
		}
	} else {
		var ok bool
		if d.Name, d.Version, ok = sdistName(file); !ok {
			return nil, fmt.Errorf("%s: neither the name of a wheel nor of an sdist", file)
		}
		d.Setuptools = true
		err = d.readSdist()
	}
	switch {
	case err == nil:
		d.Known = true
		return d, nil
	case d.Name == "":
		return nil, err
	}
	return d, fmt.Errorf("%s: %w", file, err)
}

func (d *Dist) readWheel() error {
	archive, err := zip.OpenReader(d.File)
	if err != nil {
		return err
	}
	defer archive.Close()
	for _, f := range archive.File {
		folder, name := path.Split(f.Name)
		if name != "METADATA" || !strings.HasSuffix(folder, ".dist-info/") || strings.Count(f.Name, "/") != 1 {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		text, err := readText(r)
		if err != nil {
			return err
		}
		return d.metadata(text)
	}
	return errors.New("it has no METADATA: it is no wheel")
}

// parts are the files of an sdist that are of interest, by their paths below its folder.
func (d *Dist) readSdist() error {
	parts := map[string]string{}
	if err := d.unpack(parts); err != nil {
		return err
	}
	info, ok := parts["PKG-INFO"]
	if ok {
		if err := d.metadata(info); err != nil {
			return err
		}
	}
	if !ok || d.Dynamic {
		for name, text := range parts {
			if path.Base(name) == "requires.txt" {
				d.Requires = append(d.Requires, requiresTxt(text)...)
			}
		}
	}
	d.Dynamic = d.Dynamic || !ok
	if text, ok := parts["pyproject.toml"]; ok {
		return d.pyproject(text)
	}
	return nil
}

func (d *Dist) pyproject(text string) error {
	var project struct {
		BuildSystem struct {
			Requires []string `toml:"requires"`
			Backend  string   `toml:"build-backend"`
		} `toml:"build-system"`
	}
	if _, err := toml.Decode(text, &project); err != nil {
		return fmt.Errorf("pyproject.toml: %w", err)
	}
	if project.BuildSystem.Requires != nil {
		d.BuildRequires = []Requirement{}
	}
	for _, text := range project.BuildSystem.Requires {
		r, err := ParseRequirement(text)
		if err != nil {
			return fmt.Errorf("pyproject.toml: build-system.requires: %w", err)
		}
		d.BuildRequires = append(d.BuildRequires, r)
	}
	if b := project.BuildSystem.Backend; b != "" {
		d.Setuptools = strings.HasPrefix(b, "setuptools.")
	}
	return nil
}

// wanted tells whether a file of an sdist is of interest, and its path below the sdist's folder.
func wanted(name string) (string, bool) {
	_, below, ok := strings.Cut(strings.TrimPrefix(name, "./"), "/")
	if !ok {
		return "", false
	}
	return below, below == "PKG-INFO" || below == "pyproject.toml" || strings.HasSuffix(below, ".egg-info/requires.txt")
}

// unpack reads the files of interest out of an sdist.
func (d *Dist) unpack(parts map[string]string) error {
	if strings.HasSuffix(d.File, ".zip") {
		archive, err := zip.OpenReader(d.File)
		if err != nil {
			return err
		}
		defer archive.Close()
		for _, f := range archive.File {
			below, ok := wanted(f.Name)
			if !ok {
				continue
			}
			r, err := f.Open()
			if err != nil {
				return err
			}
			text, err := readText(r)
			r.Close()
			if err != nil {
				return err
			}
			parts[below] = text
		}
		return nil
	}
	f, err := os.Open(d.File)
	if err != nil {
		return err
	}
	defer f.Close()
	var in io.Reader = f
	switch {
	case strings.HasSuffix(d.File, "gz"):
		if in, err = gzip.NewReader(f); err != nil {
			return err
		}
	case strings.HasSuffix(d.File, ".bz2"):
		in = bzip2.NewReader(f)
	}
	limited := &io.LimitedReader{R: in, N: maxUnpacked}
	archive := tar.NewReader(limited)
	for {
		h, err := archive.Next()
		switch {
		case limited.N <= 0:
			return fmt.Errorf("unpacks to more than %d bytes", int64(maxUnpacked))
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		below, ok := wanted(h.Name)
		if !ok || h.Typeflag != tar.TypeReg {
			continue
		}
		if parts[below], err = readText(archive); err != nil {
			return err
		}
	}
}

func readText(r io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxMetadata+1))
	if err == nil && len(text) > maxMetadata {
		err = fmt.Errorf("metadata of more than %d bytes", maxMetadata)
	}
	return string(text), err
}
