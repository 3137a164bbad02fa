// Package transport connects to an SFTP server by other ways than package remote: a program
// that is started, as the OpenSSH client, whose input and output are the server's; a TCP port;
// the standard input and output of this process.
//
//	c, err := transport.Dial(ctx, transport.Options{Open: transport.Command(argv, nil, log)})
//	…
//	defer c.Close()
//	session, err := c.OpenSubsystem(ctx, "sftp")
//
// Such a stream of bytes is one SFTP session, and opening another one may mean a password to be
// asked for again, or be impossible. So a Conn carries any number of sessions over each of its
// streams: it gives the requests of each session numbers of its own, and each answer goes to
// the session that has asked. A server that answers what nobody has asked is cut off.
//
// Nothing here encrypts or knows who is at the other end; the program that is started has to.
package transport
