package control

// The requests for files, of a mount program that mounts nothing. Each has a FileRequest:
//
//	lstat    → FileInfo
//	list     → []FileInfo, without a folder's . and ..
//	mkdir    the folder, and those above it that are missing
//	write    with data "in": a new file, EEXIST where there is one
//	read     with data "out"
//	rename   to To, replacing what is there
//	remove   a file, or a folder that is empty
const (
	FileLstat  = "lstat"
	FileList   = "list"
	FileMkdir  = "mkdir"
	FileWrite  = "write"
	FileRead   = "read"
	FileRename = "rename"
	FileRemove = "remove"
)

// FileRequest says what is asked of a file.
type FileRequest struct {
	Path  string `json:"path"`            // relative to the root, with slashes
	To    string `json:"to,omitempty"`    // the new name; of rename
	Perm  uint32 `json:"perm,omitempty"`  // permissions; of mkdir and write
	Mtime int64  `json:"mtime,omitempty"` // nanoseconds since the epoch; of write
}

// FileInfo is what is told of a file.
type FileInfo struct {
	Name  string `json:"name"`  // the last part of its path
	Mode  uint32 `json:"mode"`  // type and permissions, as st_mode
	Size  int64  `json:"size"`  // bytes
	Mtime int64  `json:"mtime"` // nanoseconds since the epoch
}
