package mountprog

import (
	"fmt"
	"slices"
	"strings"
)

// sshWords are the ssh_config words that package remote obeys.
var sshWords = []string{
	"AddressFamily", "BatchMode", "BindAddress", "Ciphers", "ConnectTimeout", "GlobalKnownHostsFile", "HashKnownHosts", "HostKeyAlgorithms", "HostKeyAlias", "HostName",
	"IdentitiesOnly", "IdentityAgent", "IdentityFile", "KbdInteractiveAuthentication", "KexAlgorithms", "MACs", "NumberOfPasswordPrompts",
	"PasswordAuthentication", "Port", "PreferredAuthentications", "ProxyJump", "PubkeyAuthentication", "RevokedHostKeys", "ServerAliveCountMax", "ServerAliveInterval",
	"StrictHostKeyChecking", "User", "UserKnownHostsFile",
}

// sshIgnored are ssh_config words without which the mount is as safe and as right.
var sshIgnored = []string{
	"AddKeysToAgent", "CheckHostIP", "ClearAllForwardings", "ConnectionAttempts", "ControlMaster", "ControlPath", "ControlPersist",
	"EnableEscapeCommandline", "EscapeChar", "ExitOnForwardFailure", "FingerprintHash", "ForkAfterAuthentication", "ForwardAgent", "ForwardX11",
	"ForwardX11Timeout", "ForwardX11Trusted", "GSSAPIAuthentication", "GSSAPIDelegateCredentials", "HostbasedAuthentication", "IPQoS", "LogLevel",
	"NoHostAuthenticationForLocalhost", "PermitLocalCommand", "RequestTTY", "SendEnv", "StdinNull", "StreamLocalBindUnlink", "TCPKeepAlive",
	"UpdateHostKeys", "VisualHostKey", "XAuthLocation",
}

// sshOthers are the other ones of OpenSSH: without them the connection would be another one.
var sshOthers = []string{
	"BindInterface", "CASignatureAlgorithms", "CanonicalDomains", "CanonicalizeFallbackLocal", "CanonicalizeHostname", "CanonicalizeMaxDots",
	"CanonicalizePermittedCNAMEs", "CertificateFile", "DynamicForward", "EnableSSHKeysign", "GSSAPIClientIdentity", "GSSAPIKexAlgorithms",
	"GSSAPIKeyExchange", "GSSAPIRenewalForcesRekey", "GSSAPIServerIdentity", "GSSAPITrustDns", "GatewayPorts",
	"HostbasedAcceptedAlgorithms", "HostbasedKeyTypes", "IgnoreUnknown", "Include", "KbdInteractiveDevices", "KnownHostsCommand", "LocalCommand",
	"LocalForward", "LogVerbose", "PKCS11Provider", "PermitRemoteOpen", "Protocol", "ProxyCommand", "ProxyUseFdpass", "PubkeyAcceptedAlgorithms",
	"PubkeyAcceptedKeyTypes", "RekeyLimit", "RemoteCommand", "RemoteForward", "RequiredRSASize", "SecurityKeyProvider",
	"SessionType", "SetEnv", "SmartcardDevice", "StreamLocalBindMask", "SyslogFacility", "Tunnel", "TunnelDevice", "VerifyHostKeyDNS",
}

// sshOlder are older names.
var sshOlder = map[string]string{"ChallengeResponseAuthentication": "KbdInteractiveAuthentication"}

// sshWord is the name of an ssh_config word as OpenSSH writes it, "" if it is none.
func sshWord(name string) string {
	for old, word := range sshOlder {
		if strings.EqualFold(old, name) {
			return word
		}
	}
	for _, list := range [][]string{sshWords, sshIgnored, sshOthers} {
		for _, w := range list {
			if strings.EqualFold(w, name) {
				return w
			}
		}
	}
	return ""
}

// otherWay tells whether something else than package remote connects.
func (m *mountConfig) otherWay() bool {
	return m.sshCommand != nil || m.directPort != 0 || m.passive
}

// obeySSH gives the words of -o to what makes the connection. The OpenSSH client gets them as
// they are; without SSH they mean nothing.
func (m *mountConfig) obeySSH() error {
	if m.otherWay() {
		return nil
	}
	for _, o := range m.sshOptions {
		if err := m.setSSH(o[0], o[1]); err != nil {
			return fmt.Errorf("option %s=%s: %w", o[0], o[1], err)
		}
	}
	return nil
}

// setSSH sets an ssh_config word; what has a field of its own in remote.Target goes there. As
// in ssh, of a word that is given twice the first counts.
func (m *mountConfig) setSSH(word, value string) error {
	if slices.Contains(sshOthers, word) {
		return fail("-o ssh_command=ssh has the OpenSSH client connect, which knows it", "bundlefs does not know this word of ssh_config")
	}
	if slices.Contains(sshIgnored, word) {
		return nil
	}
	t := &m.target
	switch word {
	case "Port":
		if t.Port == 0 {
			return m.setPort(value)
		}
	case "User":
		if t.User == "" {
			t.User = value
		}
	case "ProxyJump":
		if t.Jump == "" {
			t.Jump = value
		}
	case "IdentityFile":
		var file string
		if err := path(&file, value); err != nil {
			return err
		}
		if t.IdentityFile == "" {
			t.IdentityFile = file
		} else {
			t.MoreIdentityFiles = append(t.MoreIdentityFiles, file)
		}
	default:
		if _, given := t.Options[word]; !given {
			t.Options[word] = value
		}
	}
	return nil
}
