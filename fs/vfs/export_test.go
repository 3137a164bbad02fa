package vfs

// Inflight is the number of requests that wait for the node.
func Inflight(s *Shared) (n int64) {
	c, _, _ := s.link.state()
	if c != nil {
		for _, x := range c.sessions {
			n += x.inflight.Load()
		}
	}
	return n
}
