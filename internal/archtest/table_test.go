package archtest

// layer is a floor of the house: a package imports only from floors below its own, and further packages only when its row says so.
type layer int

const (
	words           layer = iota // L0: pure functions, no I/O
	contracts                    // L1
	implementations              // L2: none imports another unless its row says so
	decisions                    // L3
	doors                        // L4
	wiring                       // app, cmd
)

// row is one line of the table in ARCHITECTURE.md: where a package stands and what it may import of Carrel's own.
// A name that ends in /... stands for itself and everything under it.
type row struct {
	layer layer
	may   []string
}

// table holds every package of the module. A package that is not here fails the test: decide where it belongs first.
var table = map[string]row{
	"internal/ident":    {words, nil},
	"internal/arn":      {words, nil},
	"internal/awserr":   {words, nil},
	"internal/clock":    {words, nil},
	"internal/config":   {words, nil},
	"internal/region":   {words, []string{"internal/ident"}},
	"internal/sigv4":    {words, []string{"internal/awserr"}},
	"internal/durable":  {words, nil},
	"internal/seal":     {words, []string{"internal/durable"}},
	"internal/evidence": {words, []string{"internal/durable"}},
	"internal/policy":   {words, []string{"internal/arn", "internal/awserr"}},
	"internal/managed":  {words, nil},
	"internal/throttle": {words, []string{"internal/clock"}},
	"internal/totp":     {words, nil},

	"internal/federation/saml":          {words, []string{"internal/awserr"}},
	"internal/federation/saml/samltest": {words, nil},

	"internal/api/shape":      {contracts, []string{"internal/awserr"}},
	"internal/api/workspaces": {contracts, []string{"internal/api/shape"}},
	"internal/api/ds":         {contracts, []string{"internal/api/shape"}},
	"internal/api/dsdata":     {contracts, []string{"internal/api/shape"}},
	"internal/api/sts":        {contracts, []string{"internal/api/shape"}},
	"internal/api/iam":        {contracts, []string{"internal/api/shape"}},
	"internal/api/ec2":        {contracts, []string{"internal/api/shape"}},
	"internal/api/cloudtrail": {contracts, []string{"internal/api/shape"}},
	"internal/state":          {contracts, []string{"internal/ident", "internal/arn", "internal/clock"}},
	"internal/directory":      {contracts, []string{"internal/ident"}},
	"internal/driver":         {contracts, []string{"internal/ident", "internal/directory"}},

	"internal/awsproto":          {implementations, []string{"internal/api/...", "internal/awserr"}},
	"internal/state/etcd":        {implementations, []string{"internal/state", "internal/durable", "internal/config"}},
	"internal/state/memory":      {implementations, []string{"internal/state"}},
	"internal/state/statetest":   {implementations, []string{"internal/state", "internal/state/memory", "internal/ident", "internal/clock"}},
	"internal/driver/sim":        {implementations, []string{"internal/driver", "internal/directory", "internal/ident", "internal/clock", "internal/rfb"}}, // Its screen speaks RFB.
	"internal/driver/drivertest": {implementations, []string{"internal/driver", "internal/directory", "internal/ident"}},
	"internal/audit":             {implementations, []string{"internal/state", "internal/evidence", "internal/api/shape", "internal/clock", "internal/ident", "internal/durable"}},
	"internal/pki":               {implementations, []string{"internal/clock", "internal/durable"}},
	"internal/firewall":          {implementations, nil},
	// oidc fetches the keys of identity providers.
	"internal/federation/oidc":          {implementations, []string{"internal/awserr", "internal/clock"}},
	"internal/federation/oidc/oidctest": {implementations, nil},
	"internal/doctor":                   {implementations, []string{"internal/firewall"}},
	"internal/driver/image":             {implementations, []string{"internal/driver", "internal/ident", "internal/clock", "internal/evidence", "internal/driver/jail", "internal/durable"}},
	"internal/driver/jail":              {implementations, nil},
	"internal/driver/memory":            {implementations, []string{"internal/driver", "internal/ident", "internal/durable"}},
	"internal/driver/qmp":               {implementations, nil},
	"internal/driver/guest":             {implementations, []string{"internal/driver", "internal/ident"}},
	"internal/driver/qemu":              {implementations, []string{"internal/driver", "internal/driver/jail", "internal/driver/memory", "internal/driver/qmp", "internal/driver/guest", "internal/deskline", "internal/ident", "internal/clock", "internal/durable"}},
	"internal/driver/volume":            {implementations, []string{"internal/driver", "internal/ident", "internal/clock", "internal/driver/jail", "internal/durable"}},
	"internal/driver/linuxnet":          {implementations, []string{"internal/driver", "internal/ident", "internal/durable"}},
	"internal/driver/netsvc":            {implementations, []string{"internal/driver", "internal/ident"}},
	// samba reads and writes a directory's users over a socket of its own, with directory/ad's one reading of names, SIDs and refusals.
	"internal/driver/samba": {implementations, []string{"internal/driver", "internal/directory", "internal/directory/ad", "internal/ident", "internal/driver/jail", "internal/durable"}},
	"internal/directory/ad": {implementations, []string{"internal/directory", "internal/ident"}},
	// holder notes and finds its process as jails and the keeper do theirs.
	"internal/holder":      {implementations, []string{"internal/driver/jail", "internal/driver/memory"}},
	"internal/hostapi":     {implementations, []string{"internal/driver", "internal/directory", "internal/ident"}},
	"internal/rfb":         {words, nil},
	"internal/deskline":    {words, nil},
	"internal/rfb/rfbtest": {words, []string{"internal/rfb"}},
	"internal/ticket":      {words, []string{"internal/ident"}},

	"internal/identity":              {decisions, []string{"internal/state", "internal/sigv4", "internal/awserr", "internal/arn", "internal/ident", "internal/clock"}},
	"internal/identity/identitytest": {decisions, []string{"internal/identity", "internal/state", "internal/sigv4", "internal/ident", "internal/arn", "internal/clock"}},
	"internal/permissions":           {decisions, []string{"internal/state", "internal/managed", "internal/arn"}},
	"internal/authz":                 {decisions, []string{"internal/identity", "internal/permissions", "internal/policy", "internal/state", "internal/api/...", "internal/awserr", "internal/arn", "internal/ident", "internal/clock"}},
	"internal/analysis":              {decisions, []string{"internal/policy", "internal/authz", "internal/identity", "internal/permissions", "internal/state", "internal/audit", "internal/arn"}},
	"internal/bootstrap":             {decisions, []string{"internal/region", "internal/state", "internal/ident", "internal/identity", "internal/clock"}},
	"internal/service":               {decisions, []string{"internal/api/shape", "internal/identity", "internal/state", "internal/awserr"}},
	"internal/factor":                {decisions, []string{"internal/service", "internal/state", "internal/totp"}},
	"internal/service/workspaces":    {decisions, serviceMay},
	"internal/service/ds":            {decisions, serviceMay},
	"internal/service/dsdata":        {decisions, serviceMay},
	"internal/service/sts":           {decisions, append(serviceMay, "internal/federation/saml", "internal/federation/oidc")}, // It takes their word for credentials.
	"internal/service/iam":           {decisions, append(serviceMay, "internal/federation/saml")},                             // It keeps what sts verifies with.
	"internal/service/ec2":           {decisions, serviceMay},
	// cloudtrail's records are the audit log's.
	"internal/service/cloudtrail":  {decisions, append(serviceMay, "internal/audit")},
	"internal/reconcile":           {decisions, []string{"internal/state", "internal/clock"}},
	"internal/reconcile/network":   {decisions, planMay},
	"internal/reconcile/workspace": {decisions, append(planMay, "internal/reconcile/network")},
	"internal/reconcile/directory": {decisions, append(planMay, "internal/reconcile/network")},

	"internal/front":    {doors, []string{"internal/api/...", "internal/awsproto", "internal/sigv4", "internal/identity", "internal/authz", "internal/analysis", "internal/audit", "internal/service", "internal/throttle", "internal/awserr", "internal/ident", "internal/clock", "internal/arn"}},
	"internal/gateway":  {doors, []string{"internal/clock", "internal/directory", "internal/ticket", "internal/display", "internal/state", "internal/ident"}},
	"internal/display":  {doors, []string{"internal/clock", "internal/ticket", "internal/driver", "internal/ident", "internal/rfb", "internal/deskline"}},
	"internal/operator": {doors, nil},
	"internal/metrics":  {doors, nil},
	"internal/webui":    {doors, nil},

	// setup is a client of a running installation, as an administrator's own script would be.
	"internal/setup": {wiring, []string{"internal/sigv4", "internal/operator", "internal/directory", "internal/durable"}},
	"internal/app":   {wiring, []string{"internal/..."}},
	// Offline subcommands read evidence and audit files, and make images, without a running process.
	"cmd/carrel": {wiring, []string{"internal/app", "internal/config", "internal/operator", "internal/setup", "internal/doctor", "internal/evidence", "internal/audit", "internal/analysis", "internal/driver", "internal/driver/image", "internal/driver/jail", "internal/ident", "internal/clock", "internal/durable"}},

	"internal/archtest":          {wiring, nil},
	"internal/tools/apigen":      {wiring, []string{"internal/api/shape"}},
	"internal/tools/divergences": {wiring, []string{"internal/api/shape"}},
	"internal/tools/mutate":      {wiring, nil},
	"internal/tools/load":        {wiring, []string{"internal/sigv4", "internal/state", "internal/state/memory", "internal/ident"}},
}

// serviceMay is what a service package imports: generated types, records, words, the directory contract, and who is calling.
var serviceMay = []string{"internal/api/...", "internal/service", "internal/identity", "internal/permissions", "internal/policy", "internal/managed", "internal/factor", "internal/totp", "internal/state", "internal/directory", "internal/awserr", "internal/ident", "internal/arn", "internal/clock", "internal/region", "internal/seal"}

// planMay is what a plan imports: the engine, records and driver contracts, never a driver.
var planMay = []string{"internal/reconcile", "internal/region", "internal/state", "internal/driver", "internal/directory", "internal/evidence", "internal/ident", "internal/clock", "internal/seal"}

// covered are the packages of which the unit tests must run every statement: what is never run in a package that decides who may do what is
// either untested or needless.
var covered = []string{"internal/policy"}

// budgets: lines of a file and of a function, parameters beside ctx. Generated files and tests are exempt.
const (
	fileLines     = 600
	functionLines = 80
	parameters    = 4
)

// exempt holds the reasons for which something may be over budget: "file" or "file:function".
var exempt = map[string]string{
	"internal/state/snapshot.go:PageBy": "reader, definition, index, key, after and limit are six different things, each with its own type; a struct would only be spelt out at every call",
}
