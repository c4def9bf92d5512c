package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"colorfast"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

// login is how to get into a host by SSH. The host's key is always checked.
type login struct {
	shown, user, address string
	stall                time.Duration
	hostKey              ssh.HostKeyCallback
	algorithms           []string // of host keys that are known; nil for the usual
	signers              []ssh.Signer
	agent                string // socket; "" for none
	password             Secret
}

// newLogin finds keys and known hosts, in the URL, the environment, and the
// folder that ssh uses.
func newLogin(p *place, env environment, stall time.Duration) (*login, error) {
	l := &login{shown: p.short(), user: p.user, address: p.host, stall: stall, agent: env.get("SSH_AUTH_SOCK")}
	if _, _, err := net.SplitHostPort(p.host); err != nil {
		l.address = net.JoinHostPort(strings.Trim(p.host, "[]"), "22")
	}
	if l.user == "" {
		if l.user = env.first("USER", "LOGNAME"); l.user == "" {
			return nil, colorfast.Errorf(colorfast.Usage, "open vault %q: no user is named", p.short()).WithHint("write it as in %q", forms["sftp"].example)
		}
	}
	var err error
	if l.password, err = env.secret("COLORFAST_SFTP_PASSWORD"); err != nil {
		return nil, err
	}
	if err := l.findKeys(p, env); err != nil {
		return nil, err
	}
	if len(l.signers) == 0 && l.agent == "" && l.password.IsZero() {
		return nil, colorfast.Errorf(colorfast.Denied, "open vault %q: there is no key to log in with", p.short()).
			WithHint("add \"?key_file=/path/to/key\", start an ssh-agent, or set COLORFAST_SFTP_PASSWORD_FILE")
	}
	return l, l.findHosts(p, env)
}

// findKeys reads the key that the URL names, or those that ssh would use.
func (l *login) findKeys(p *place, env environment) error {
	if file := p.params["key_file"]; file != "" {
		s, err := readKey(file, env)
		if err != nil {
			return fail(err, fileKind(err), "open vault %q: read the key", p.short())
		}
		l.signers, l.agent = []ssh.Signer{s}, "" // this one and no other
		return nil
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		if file := env.home(".ssh", name); file != "" {
			if s, err := readKey(file, env); err == nil {
				l.signers = append(l.signers, s)
			}
		}
	}
	return nil
}

// readKey reads a private key, which may have a passphrase.
func readKey(file string, env environment) (ssh.Signer, error) {
	b, err := readSmall(file)
	if err != nil {
		return nil, colorfast.Errorf(fileKind(err), "%w", err).WithHint("look at \"key_file\" in the URL")
	}
	s, err := ssh.ParsePrivateKey(b)
	var locked *ssh.PassphraseMissingError
	if !errors.As(err, &locked) {
		if err != nil {
			return nil, colorfast.Errorf(colorfast.Usage, "%q is no private key", file).WithHint("look at \"key_file\" in the URL")
		}
		return s, nil
	}
	phrase, err := env.secret("COLORFAST_SFTP_KEY_PASSPHRASE")
	if err != nil {
		return nil, err
	}
	if s, err = ssh.ParsePrivateKeyWithPassphrase(b, []byte(phrase.text)); err != nil {
		return nil, colorfast.Errorf(colorfast.Denied, "%q has another passphrase, or none is given", file).
			WithHint("set COLORFAST_SFTP_KEY_PASSPHRASE_FILE, or use an ssh-agent")
	}
	return s, nil
}

// findHosts reads the keys of known hosts.
func (l *login) findHosts(p *place, env environment) error {
	var files []string
	if f := p.params["known_hosts"]; f != "" {
		files = []string{f}
	} else {
		for _, f := range []string{env.home(".ssh", "known_hosts"), "/etc/ssh/ssh_known_hosts"} {
			if _, err := os.Stat(f); f != "" && err == nil {
				files = append(files, f)
			}
		}
	}
	hint := fmt.Sprintf("run \"ssh-keyscan -p PORT HOST\", compare what it prints with what the host's owner says, and put it into %s", knownName(p))
	if len(files) == 0 {
		return colorfast.Errorf(colorfast.Usage, "open vault %q: no key of the host is known", p.short()).WithHint("%s", hint)
	}
	check, err := knownhosts.New(files...)
	if err != nil {
		return colorfast.Errorf(fileKind(err), "open vault %q: read the known hosts: %w", p.short(), err).WithHint("look at \"known_hosts\" in the URL")
	}
	l.algorithms = known(check, l.address)
	l.hostKey = func(host string, remote net.Addr, key ssh.PublicKey) error {
		err := check(host, remote, key)
		var ke *knownhosts.KeyError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &ke) && len(ke.Want) == 0:
			return colorfast.Errorf(colorfast.Denied, "open vault %q: the host's key (%s) is not known", p.short(), ssh.FingerprintSHA256(key)).WithHint("%s", hint)
		}
		return colorfast.Errorf(colorfast.Denied, "open vault %q: the host's key (%s) is not the one that is known: somebody may be in between", p.short(), ssh.FingerprintSHA256(key)).
			WithHint("ask the host's owner; if the key was changed, put the new one into %s", knownName(p))
	}
	return nil
}

func knownName(p *place) string {
	if f := p.params["known_hosts"]; f != "" {
		return f
	}
	return "~/.ssh/known_hosts"
}

// known returns the algorithms of a host's known keys, so that the server shows
// one of those and not another that it has too.
func known(check ssh.HostKeyCallback, address string) []string {
	var ke *knownhosts.KeyError
	if err := check(address, &net.TCPAddr{IP: net.IPv4zero}, noKey{}); !errors.As(err, &ke) {
		return nil
	}
	var algorithms []string
	for _, k := range ke.Want {
		if t := k.Key.Type(); t == ssh.KeyAlgoRSA {
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			algorithms = append(algorithms, t)
		}
	}
	return algorithms
}

// noKey is a public key that nobody has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return nil }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

// sshLink is a connection to an SFTP server.
type sshLink struct {
	client *sftp.Client
	conn   net.Conn
}

// close ends the connection at once, also in the middle of an answer.
func (l *sshLink) close() {
	_ = l.conn.Close()
	_ = l.client.Close()
}

// dial connects and logs in.
func (l *login) dial(ctx context.Context) (*sshLink, error) {
	conn, err := (&dialer{stall: l.stall}).DialContext(ctx, "tcp", l.address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	c, err := l.shake(conn)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &sshLink{client: c, conn: conn}, nil
}

func (l *login) shake(conn net.Conn) (*sftp.Client, error) {
	config := &ssh.ClientConfig{User: l.user, HostKeyCallback: l.hostKey, HostKeyAlgorithms: l.algorithms, ClientVersion: "SSH-2.0-colorfast"}
	if len(l.signers) > 0 {
		config.Auth = append(config.Auth, ssh.PublicKeys(l.signers...))
	}
	if l.agent != "" && len(l.signers) == 0 {
		if a, err := net.Dial("unix", l.agent); err == nil {
			defer func() { _ = a.Close() }()
			config.Auth = append(config.Auth, ssh.PublicKeysCallback(agent.NewClient(a).Signers))
		}
	}
	if !l.password.IsZero() {
		config.Auth = append(config.Auth, ssh.Password(l.password.text))
	}
	sc, channels, requests, err := ssh.NewClientConn(conn, l.address, config)
	if err != nil {
		var ours *colorfast.Error
		if errors.As(err, &ours) {
			return nil, ours // of the host's key; the rest of the text says less
		}
		if strings.Contains(err.Error(), "unable to authenticate") {
			return nil, &fault{class: refused, err: fmt.Errorf("the host does not let %q in: %w", l.user, fs.ErrPermission)}
		}
		return nil, &fault{err: fmt.Errorf("log in: %w", err)}
	}
	c, err := sftp.NewClient(ssh.NewClient(sc, channels, requests), sftp.UseConcurrentWrites(true))
	if err != nil {
		return nil, &fault{class: unfit, err: fmt.Errorf("the host has no sftp: %w", err)}
	}
	return c, nil
}
