package vfs

import (
	"context"
	"fmt"
	"maps"
	"path"
	"syscall"

	"bundlefs/internal/sftpwire"
)

// noID is no number of a user or group (chown(2)).
const noID = 1<<32 - 1

// idTable maps the numbers of users, or of groups.
type idTable struct {
	local  map[uint32]uint32 // by number on the node
	remote map[uint32]uint32 // by number here
	strict bool              // others are not mapped to themselves
}

// newIDTable takes the numbers on the node by those here.
func newIDTable(remote map[uint32]uint32, strict bool) idTable {
	t := idTable{remote: maps.Clone(remote), local: make(map[uint32]uint32, len(remote)), strict: strict && remote != nil}
	for here, there := range remote {
		// Of several numbers here the lowest stands for the one on the node.
		if other, ok := t.local[there]; !ok || here < other {
			t.local[there] = here
		}
	}
	return t
}

// here is the number that is shown for one of the node, noID if there is none.
func (t idTable) here(id uint32) uint32 {
	if n, ok := t.local[id]; ok {
		return n
	}
	if t.strict {
		return noID
	}
	return id
}

// there is the number on the node for one here.
func (t idTable) there(id uint32) (uint32, error) {
	if n, ok := t.remote[id]; ok {
		return n, nil
	}
	if t.strict {
		return 0, syscall.EPERM
	}
	return id, nil
}

// usable returns EPERM for the attributes of what has an owner that nobody here is.
func (v *view) usable(a Attr) error {
	if v.uids.strict && a.UID == noID || v.gids.strict && a.GID == noID {
		return syscall.EPERM
	}
	return nil
}

// given returns EPERM for an owner that the login, who is not the node's root, cannot give to a file:
// here and at once, since the node would refuse it when it was acknowledged.
func (v *view) given(set SetAttr, now Attr) error {
	if !v.ownOnly {
		return nil
	}
	if set.UID != nil && *set.UID != now.UID && *set.UID != v.LocalUID || set.GID != nil && *set.GID != now.GID && *set.GID != v.LocalGID {
		return syscall.EPERM
	}
	return nil
}

// owner turns an owner of here into the node's; what is nil stays nil.
func (v *view) owner(uid, gid *uint32) (*uint32, *uint32, error) {
	for _, x := range []struct {
		id    **uint32
		table idTable
	}{{&uid, v.uids}, {&gid, v.gids}} {
		if *x.id == nil {
			continue
		}
		n, err := x.table.there(**x.id)
		if err != nil {
			return nil, nil, err
		}
		*x.id = &n
	}
	return uid, gid, nil
}

// askLogin asks for the attributes of what belongs to the login on the node: the file of root that
// ViewOptions.LoginFile names, or else the home folder, in which a session of SFTP begins.
func (o *ViewOptions) askLogin(ctx context.Context, link *transport, root string) (*sftpwire.Stat, error) {
	p := "."
	if o.LoginFile != "" {
		p = path.Join(root, o.LoginFile)
	}
	return ask(ctx, link, func(s *session) (*sftpwire.Stat, error) { return stated(s.Stat(p)) })
}

// newView finds out what the options leave open. login is askLogin, or its result.
func newView(o ViewOptions, uid, gid, umask *uint32, login func() (*sftpwire.Stat, error)) (view, error) {
	v := view{ViewOptions: o, uid: uid, gid: gid, umask: umask}
	switch o.IDMap {
	case "", "none":
	case "user":
		own, err := login()
		if err != nil {
			return view{}, fmt.Errorf("find the login's number on the node: %w", err)
		}
		v.uids = newIDTable(map[uint32]uint32{o.LocalUID: own.UID}, false)
		v.gids = newIDTable(map[uint32]uint32{o.LocalGID: own.GID}, false)
		v.ownOnly = o.LoginFile != "" && own.UID != 0
	case "file":
		strict := o.NoMap != "ignore"
		v.uids, v.gids = newIDTable(o.UIDMap, strict), newIDTable(o.GIDMap, strict)
	default:
		return view{}, fmt.Errorf("idmap %q is not known: it is none, user or file", o.IDMap)
	}
	switch o.NoMap {
	case "", "error", "ignore":
	default:
		return view{}, fmt.Errorf("nomap %q is not known: it is error or ignore", o.NoMap)
	}
	return v, nil
}
