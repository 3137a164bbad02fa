package vfs

// RootError says that the folder to mount cannot be: it is not there, is no folder
// or may not be read.
type RootError struct {
	Folder string // as it was asked for
	Err    error
}

func (e *RootError) Error() string { return e.Folder + " on the node: " + e.Err.Error() }

func (e *RootError) Unwrap() error { return e.Err }
