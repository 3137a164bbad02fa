package node

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	loginTimeout = 30 * time.Second
	maxSessions  = 100 // of one connection
	acceptPause  = 50 * time.Millisecond
)

func serverConfig(user string, host ssh.Signer, client ssh.PublicKey) *ssh.ServerConfig {
	wanted := client.Marshal()
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if c.User() == user && bytes.Equal(key.Marshal(), wanted) {
				return nil, nil
			}
			return nil, errors.New("not the key of this node")
		},
	}
	config.AddHostKey(host)
	return config
}

// accept takes on connections until the listener is closed.
func (n *Node) accept() {
	for {
		c, err := n.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(acceptPause) // out of descriptors, most likely
			continue
		}
		n.mu.Lock()
		if n.closed {
			n.mu.Unlock()
			c.Close()
			return
		}
		n.conns[c] = struct{}{}
		n.running.Go(func() {
			n.serve(c)
			c.Close()
			n.mu.Lock()
			delete(n.conns, c)
			n.mu.Unlock()
		})
		n.mu.Unlock()
	}
}

// serve logs a client in and serves its sessions until the connection ends.
func (n *Node) serve(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(loginTimeout))
	conn, channels, requests, err := ssh.NewServerConn(c, n.config)
	if err != nil {
		return
	}
	_ = c.SetDeadline(time.Time{})
	var running sync.WaitGroup
	running.Go(func() { ssh.DiscardRequests(requests) }) // a keepalive wants any answer
	sessions := make(chan struct{}, maxSessions)
	gone := make(chan struct{}) // closed when the connection has ended
	for nc := range channels {
		if nc.ChannelType() != "session" {
			_ = nc.Reject(ssh.UnknownChannelType, "only sessions are served")
			continue
		}
		select {
		case sessions <- struct{}{}:
		default:
			_ = nc.Reject(ssh.ResourceShortage, "too many sessions")
			continue
		}
		channel, requests, err := nc.Accept()
		if err != nil {
			<-sessions
			continue
		}
		running.Go(func() {
			n.session(channel, requests, gone)
			<-sessions
		})
	}
	close(gone)
	_ = conn.Close()
	running.Wait()
}

// session serves one session: what the first exec, shell or subsystem request asks for.
func (n *Node) session(channel ssh.Channel, requests <-chan *ssh.Request, gone <-chan struct{}) {
	var running sync.WaitGroup
	defer running.Wait()
	var command *command
	started := false
	for req := range requests {
		var begin func() // after the reply, as the client expects nothing before it
		ok := false
		switch req.Type {
		case "exec", "shell":
			var m struct{ Command string }
			if started || req.Type == "exec" && ssh.Unmarshal(req.Payload, &m) != nil {
				break
			}
			started = true
			var err error
			if command, err = n.startCommand(channel, m.Command); err == nil {
				begin = func() { command.serve(gone) }
			}
		case "subsystem":
			var m struct{ Name string }
			if started || ssh.Unmarshal(req.Payload, &m) != nil || m.Name != "sftp" {
				break
			}
			started = true
			begin = func() { n.serveSFTP(channel) }
		case "signal":
			var m struct{ Name string }
			ok = command != nil && ssh.Unmarshal(req.Payload, &m) == nil && command.signal(m.Name)
		}
		if req.WantReply {
			_ = req.Reply(ok || begin != nil, nil)
		}
		if begin != nil {
			running.Go(begin)
		}
	}
}
