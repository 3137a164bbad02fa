package remote_test

import (
	"errors"
	"strings"
	"testing"

	"bundlefs/internal/remote"
	"bundlefs/internal/testnode"
)

// What a login shell prints before the SFTP server runs is named, with where it comes from.
func TestNoiseBeforeSFTP(t *testing.T) {
	n := testnode.Start(t, testnode.WithConfig(`ForceCommand echo Welcome to the node; exec sh -c "$SSH_ORIGINAL_COMMAND"`))
	c := mustDial(t, n.Target(), nil)
	_, err := c.SFTP(patient(t))
	var noise *remote.NoiseError
	var refused *remote.SessionError
	if !errors.As(err, &noise) || !errors.As(err, &refused) || !strings.Contains(refused.Hint(), ".bashrc") {
		t.Errorf("got %v", err)
	}
	ch, err := c.OpenSubsystem(patient(t), "sftp")
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	if n, err := ch.Read(make([]byte, 1000)); n != 0 || !errors.As(err, &noise) || !strings.Contains(err.Error(), `"Welcome to the node`) {
		t.Errorf("read %d bytes, %v", n, err)
	}
	// A command is not SFTP when nobody says so.
	var out strings.Builder
	p, err := c.Start(patient(t), "echo done", nil, &out, nil)
	if err == nil {
		_, err = p.Wait()
	}
	if err != nil || out.String() != "Welcome to the node\ndone\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
