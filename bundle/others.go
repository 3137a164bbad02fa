package bundle

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// Other is a bundle on the node that is not the one that was asked about.
type Other struct {
	Dir    string  // its folder, below the home of the user on the node
	Record *Record // nil when it cannot be read
}

// othersScript looks for the bundles of the user on the node: what lease names lead to, and what
// has an owner record near the top of the home. For each it prints how many bytes its path and its
// record have, in a line, and then these two. It leaves out what stands at its argument.
const othersScript = `
mine=$1 count=0 seen=
say others
one() {
	[ $count -lt 16 ] && [ "$1" != "$mine" ] && [ -d "$1" ] && [ ! -L "$1" ] || return 0
	case $seen in *"|$1|"*) return 0 ;; esac
	record=$1/` + RecordName + `
	[ -f "$record" ] && [ ! -L "$record" ] && [ -r "$record" ] || return 0
	size=$(wc -c <"$record")
	[ "$size" -le 3072 ] || return 0
	seen="$seen|$1|" count=$((count + 1))
	printf '%d %d\n%s' "$(printf %s "$1" | wc -c)" $size "$1"
	dd if="$record" bs=3072 count=1 2>/dev/null
}
for lease in .conc-lease-*; do
	[ -L "$lease" ] || continue
	to=$(readlink -- "$lease" 2>/dev/null) && case $to in ./*) one "$to" ;; esac
done
for record in ./*/` + RecordName + ` ./*/*/` + RecordName + `; do
	one "${record%/*}"
done
finish
`

// maxOthers is how much one path and one record may have, in bytes.
const maxOthers = 4096

// Others tells which other bundles the user on the node has open, whoever holds them: what names
// its release is a lock for that release only.
func (b *Bundle) Others(ctx context.Context) ([]Other, error) {
	client, done, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	a, err := runScript(ctx, client, othersScript, "", "./"+b.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("look for other bundles on %s: %w", b.cfg.Node, err)
	}
	if a.words[0] != "others" {
		return nil, fmt.Errorf("look for other bundles on %s: %w", b.cfg.Node, a.failure(lookFailures))
	}
	return parseOthers(a.body)
}

// parseOthers reads what the script prints. It comes from the node, and is not trusted.
func parseOthers(body []byte) ([]Other, error) {
	var list []Other
	for len(body) > 0 {
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		name, size, ok := strings.Cut(strings.TrimSpace(string(line)), " ")
		if name == "" && !ok {
			body = rest
			continue
		}
		n, err := strconv.Atoi(name)
		m, merr := strconv.Atoi(strings.TrimSpace(size))
		if err != nil || merr != nil || n < 1 || m < 0 || n > maxOthers || m > maxOthers || n+m > len(rest) {
			return list, fmt.Errorf("unexpected answer of the node: %q", clean(string(line)))
		}
		o := Other{Dir: clean(path.Clean(string(rest[:n])))}
		o.Record, _ = parseRecord(rest[n : n+m])
		list, body = append(list, o), rest[n+m:]
	}
	return list, nil
}

// String is the folder and who holds it.
func (o Other) String() string {
	if o.Record == nil {
		return o.Dir + ", held by somebody unknown"
	}
	return o.Dir + ", held by " + o.Record.Who() + " since " + o.Record.Time.UTC().Format("2006-01-02T15:04:05Z")
}
