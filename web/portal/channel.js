// The browser's end of a display session (see internal/display): a WebSocket on which text messages tell of the session and binary ones
// are RFB. openChannel presents the ticket and gives an object that noVNC's RFB takes in a WebSocket's place.

const protocol = 'carrel.display.v1';

// Channel looks like a WebSocket to noVNC, which must not see the text messages.
class Channel {
    #socket;
    #handler = null;
    #early = [];

    onopen = null;
    onclose = null;
    onerror = null;
    binaryType = 'arraybuffer';
    // onnote is called with every later text message: {type: 'latency', milliseconds: 12.3}.
    onnote = () => {};
    // ended resolves with why the session ended: a reason of internal/display, or 'lost'.
    ended;
    // opened is the first text message: {type: 'open', title, viewOnly, clipboard}.
    opened = null;

    constructor(socket, begin, refuse) {
        this.#socket = socket;
        socket.binaryType = 'arraybuffer';
        this.ended = new Promise((resolve) => {
            socket.onclose = (event) => {
                const reason = event.code === 4000 && event.reason ? event.reason : 'lost';
                refuse(new Error(reason));
                resolve(reason);
                this.onclose?.(event);
            };
        });
        socket.onerror = (event) => this.onerror?.(event);
        socket.onmessage = (event) => {
            if (typeof event.data !== 'string') {
                if (this.#handler) {
                    this.#handler(event);
                } else {
                    this.#early.push(event);
                }
                return;
            }
            const note = JSON.parse(event.data);
            if (note.type === 'open') {
                this.opened = note;
                begin(this);
            } else {
                this.onnote(note);
            }
        };
    }

    get protocol() { return this.#socket.protocol; }
    get readyState() { return this.#socket.readyState; }

    get onmessage() { return this.#handler; }
    set onmessage(handler) {
        this.#handler = handler;
        for (const event of this.#early.splice(0)) {
            handler(event);
        }
    }

    send(data) { this.#socket.send(data); }
    close() { this.#socket.close(); }
}

// openChannel connects to url (wss:) and presents the ticket. It rejects with an Error whose message is the reason.
export function openChannel(url, ticket) {
    return new Promise((begin, refuse) => {
        const socket = new WebSocket(url, [protocol]);
        socket.onopen = () => socket.send(JSON.stringify({ ticket }));
        new Channel(socket, begin, refuse);
    });
}
