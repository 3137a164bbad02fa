package remote

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// maxKeyFile bounds what is read of a key file, in bytes.
const maxKeyFile = 1 << 20

var errNobodyToAsk = errors.New("it is encrypted, and nobody can be asked for its passphrase")

// keyFile is a private key file as far as it can be read without a passphrase.
type keyFile struct {
	path   string
	pub    ssh.PublicKey // nil: only known once decrypted
	signer ssh.Signer    // nil: encrypted, or a public key only
	sealed []byte        // the encrypted private key; nil if there is none
}

// loadKeyFile reads a private key, or a public one whose private half is in
// the agent. The rule about permissions is OpenSSH's: a file of ours that
// others can read is not used.
func loadKeyFile(path string) (*keyFile, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		// The key may be in the agent only, with its public half beside.
		if pub := readPublicKey(path + ".pub"); pub != nil {
			return &keyFile{path: path, pub: pub}, nil
		}
	}
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	if st.Size() > maxKeyFile {
		return nil, errors.New("it is too large for a key")
	}
	if pub := readPublicKey(path); pub != nil {
		return &keyFile{path: path, pub: pub}, nil
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) == os.Getuid() && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("not used: its mode %#o lets others read it (chmod 600 it)", st.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	signer, err := ssh.ParsePrivateKey(data)
	var missing *ssh.PassphraseMissingError
	switch {
	case err == nil:
		clear(data)
		return &keyFile{path: path, pub: signer.PublicKey(), signer: signer}, nil
	case errors.As(err, &missing):
		pub := missing.PublicKey
		if pub == nil {
			pub = readPublicKey(path + ".pub")
		}
		return &keyFile{path: path, pub: pub, sealed: data}, nil
	}
	return nil, fmt.Errorf("not a private key: %w", err)
}

// readPublicKey is nil when the file has none.
func readPublicKey(path string) ssh.PublicKey {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() > maxKeyFile {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil
	}
	return pub
}

// unlock asks for the passphrase until it fits, tries times at most. An empty
// answer gives the key up.
func (k *keyFile) unlock(ask *asker, tries int) (ssh.Signer, error) {
	if k.signer != nil {
		return k.signer, nil
	}
	if ask == nil {
		return nil, errNobodyToAsk
	}
	prompt := fmt.Sprintf("Passphrase for key %s: ", k.path)
	for range tries {
		answer, err := ask.secret(prompt)
		if err != nil {
			return nil, fmt.Errorf("its passphrase was not given: %w", err)
		}
		if answer == "" {
			return nil, errors.New("its passphrase was not given")
		}
		passphrase := []byte(answer)
		signer, err := ssh.ParsePrivateKeyWithPassphrase(k.sealed, passphrase)
		clear(passphrase)
		if err == nil {
			k.signer = signer
			clear(k.sealed)
			return signer, nil
		}
		if !errors.Is(err, x509.IncorrectPasswordError) {
			return nil, fmt.Errorf("decrypt it: %w", err)
		}
		prompt = fmt.Sprintf("Wrong. Passphrase for key %s: ", k.path)
	}
	return nil, fmt.Errorf("wrong passphrase %d times", tries)
}

// lazySigner signs with a key that is unlocked only when it has to sign, which
// is after the node said that it would accept the key.
type lazySigner struct {
	pub    ssh.PublicKey
	unlock func() (ssh.Signer, error)
	err    error // why it could not sign
}

func (s *lazySigner) PublicKey() ssh.PublicKey { return s.pub }

func (s *lazySigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, "")
}

func (s *lazySigner) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	sig, err := s.sign(rand, data, algorithm)
	s.err = err
	return sig, err
}

func (s *lazySigner) sign(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	signer, err := s.unlock()
	if err != nil {
		return nil, err
	}
	if !sameKey(signer.PublicKey(), s.pub) {
		return nil, errors.New("the private key does not belong to the public key beside it")
	}
	if a, ok := signer.(ssh.AlgorithmSigner); ok && algorithm != "" {
		return a.SignWithAlgorithm(rand, data, algorithm)
	}
	return signer.Sign(rand, data)
}
