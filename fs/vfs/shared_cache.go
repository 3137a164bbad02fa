package vfs

import "time"

// CacheOptions say what shared mode remembers of names and attributes that the
// node has told, beside what the kernel does.
type CacheOptions struct {
	// Off has nothing remembered.
	Off bool
	// Attr, Link and Dir say for how long attributes, targets of links, and the
	// names in a folder are taken as true; nil means: attributes and targets for
	// AttrTimeout, names for NameTimeout.
	Attr, Link, Dir *time.Duration
	// Max is how many names are remembered; 0 means 50,000.
	Max int
	// CleanInterval is how often what has grown old is looked for; nil means 60 s.
	// When there is no room it is looked for as often as MinCleanInterval; nil
	// means 5 s.
	CleanInterval, MinCleanInterval *time.Duration
	// NoAhead has no folder listed before somebody asks for it.
	NoAhead bool
}
