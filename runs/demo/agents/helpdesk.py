"""helpdesk-triage: sorts and answers the tickets of a company with offices in seven countries."""

from dataclasses import dataclass

from runs.demo.story import A2A, Agent, Chance, Scenario, Told, asks, data_part, says, told, uses


@dataclass(frozen=True, slots=True)
class Ticket:
    """What somebody wrote, and what is right to answer."""

    language: str
    title: str
    text: str
    category: str
    reply: str


TICKETS = (
    Ticket(
        "en",
        "VPN drops every twenty minutes since the update",
        "Since Monday's update my VPN drops every twenty minutes, mostly in calls. I am on a Mac, at home.",
        "network",
        "That is a known fault of client 5.2 on Macs. Install 5.2.1 from Self Service and restart; your "
        "settings stay. If it drops again after that, answer here and a colleague calls you.",
    ),
    Ticket(
        "en",
        "New starter on Monday has no accounts yet",
        "Priya starts on Monday in Finance and has no accounts. Her manager is away. Can you set her up?",
        "accounts",
        "I prepared mail, chat and the finance group for Priya. Finance systems need her manager's yes; "
        "in his absence his deputy can give it, and I have asked her.",
    ),
    Ticket(
        "en",
        "Printer on floor 3 prints blank pages",
        "The printer by the kitchen on floor 3 prints blank pages, but only the second side.",
        "hardware",
        "Blank second sides point at the duplex unit. I have booked the technician for tomorrow morning; "
        "until then the printer at the stairs works.",
    ),
    Ticket(
        "en",
        "Is this invoice mail real?",
        "I got an invoice from a supplier we know, but the bank account is new and the mail is from "
        "another domain. Is it real?",
        "security",
        "Please do not pay it. The domain was registered four days ago. I have told the security team and "
        "removed the mail from six other mailboxes. You did right to ask.",
    ),
    Ticket(
        "en",
        "Laptop battery lasts an hour",
        "My laptop is two years old and the battery lasts an hour. Can I get a new one?",
        "hardware",
        "The battery has 61 % of its capacity left, which our policy replaces. Bring it to the desk on "
        "any day; it takes twenty minutes.",
    ),
    Ticket(
        "de",
        "Kalender zeigt Termine eine Stunde zu spät",
        "Seit der Zeitumstellung zeigt mein Kalender alle Termine eine Stunde zu spät, aber nur auf dem "
        "Handy.",
        "software",
        "Auf dem Handy ist die Zeitzone fest auf „London“ gestellt. Unter Einstellungen › Datum bitte "
        "„automatisch“ wählen, dann stimmen die Termine sofort.",
    ),
    Ticket(
        "de",
        "Kein Zugriff auf das Laufwerk der Buchhaltung",
        "Ich bin seit dem 1. in der Buchhaltung und komme nicht auf Laufwerk B.",
        "accounts",
        "Sie fehlten in der Gruppe „Buchhaltung“. Ich habe Sie aufgenommen, Ihre Leitung hat zugestimmt. "
        "Bitte einmal ab- und wieder anmelden.",
    ),
    Ticket(
        "de",
        "Bildschirm bleibt nach dem Andocken schwarz",
        "Wenn ich das Notebook andocke, bleibt der linke Bildschirm schwarz. Nach dem dritten Versuch "
        "geht es manchmal.",
        "hardware",
        "Das klingt nach der alten Firmware der Dockingstation. Das Update läuft heute Nacht von selbst, "
        "wenn das Notebook angedockt bleibt.",
    ),
    Ticket(
        "uk",
        "Не приходять листи з кодом підтвердження",
        "З учорашнього дня не отримую листів з кодом для входу. У спамі також нічого немає.",
        "accounts",
        "Ваша скринька була заповнена, тому листи поверталися. Я збільшив її до 50 ГБ. Запросіть код ще "
        "раз — він прийде за хвилину.",
    ),
    Ticket(
        "uk",
        "Потрібен доступ до тестового середовища",
        "Добрий день! Починаю працювати над оплатами, потрібен доступ до тестового середовища до середи.",
        "accounts",
        "Доступ надано на три місяці, ваш керівник підтвердив. Адреса і сертифікат — у листі, який щойно "
        "надіслано.",
    ),
    Ticket(
        "uk",
        "Ноутбук дуже гріється під час дзвінків",
        "Під час відеодзвінків ноутбук гріється і вентилятор шумить так, що мене не чути.",
        "hardware",
        "Відео обробляє процесор, бо драйвер відеокарти застарів. Оновлення вже чекає у «Центрі програм», "
        "перезавантаження займе п'ять хвилин.",
    ),
    Ticket(
        "ar",
        "لا أستطيع الدخول إلى نظام الإجازات",
        "منذ صباح اليوم تظهر لي رسالة «انتهت صلاحية الجلسة» كلما حاولت الدخول إلى نظام الإجازات.",
        "software",
        "المشكلة من ملفات الارتباط القديمة بعد تحديث النظام. احذف بيانات الموقع من المتصفح ثم ادخل من "
        "جديد، وإن استمرت الرسالة فأرسل لنا صورة للشاشة.",
    ),
    Ticket(
        "ar",
        "الطابعة في الطابق الثاني لا تستجيب",
        "أرسلت عدة مستندات إلى الطابعة في الطابق الثاني ولم يخرج شيء، مع أن الشاشة تقول «جاهزة».",
        "hardware",
        "كانت قائمة الطباعة متوقفة بسبب ملف واحد كبير. حذفته، وخرجت مستنداتك الآن. شكرًا على التنبيه.",
    ),
    Ticket(
        "ja",
        "会議室の予約が重複しています",
        "木曜日の15時に第2会議室を予約しましたが、別のチームも同じ時間に予約しているようです。",
        "software",
        "カレンダーの同期が遅れ、二重に予約されていました。先に予約されたのはお客様のチームです。"
        "もう一方のチームには第4会議室をご案内しました。",
    ),
    Ticket(
        "ja",
        "在宅勤務でファイルサーバーにつながらない",
        "自宅からVPNには接続できますが、ファイルサーバーだけ開けません。",
        "network",
        "接続先が古いサーバー名のままになっています。新しい名前は「files」です。"
        "ショートカットを配布しましたので、再起動後にお試しください。",
    ),
    Ticket(
        "zh",
        "申请安装设计软件许可证",
        "我下周开始参与新产品的设计，需要安装设计软件，请问怎么申请许可证？",
        "software",
        "目前还有三个空闲的许可证，已经为您分配了一个。请在“软件中心”里点击安装，大约需要十五分钟。",
    ),
    Ticket(
        "zh",
        "邮箱收不到客户的附件",
        "客户说已经发了三次报价单，但我一直收不到附件，只有正文。",
        "mail",
        "附件是加密的压缩包，被安全策略拦截了。检查后确认安全，已经放行，并把这位客户加入了可信名单。",
    ),
    Ticket(
        "pt",
        "A câmara não funciona nas reuniões",
        "Desde ontem a câmara aparece preta nas reuniões, mas funciona noutros programas.",
        "software",
        "O programa de reuniões perdeu a permissão depois da atualização. Em Definições › Privacidade › "
        "Câmara, volte a ligá-lo e reinicie o programa.",
    ),
    Ticket(
        "pt",
        "Preciso de um monitor para trabalhar em casa",
        "Vou trabalhar três dias por semana em casa e preciso de um monitor. Qual é o processo?",
        "hardware",
        "Com três dias por semana tem direito a um monitor de 27 polegadas. Fiz o pedido; chega a sua "
        "casa entre quinta e sexta.",
    ),
)

_PRIORITY = {"security": "urgent", "network": "high", "accounts": "high"}


def answer(ticket: Ticket) -> Scenario:
    def tell(chance: Chance) -> Told:
        number = chance.randint(21_000, 29_999)
        verdict = {
            "category": ticket.category,
            "priority": _PRIORITY.get(ticket.category, "normal"),
            "language": ticket.language,
            "confidence": round(chance.uniform(0.81, 0.99), 2),
        }
        articles = [{"id": f"KB-{chance.randint(100, 999)}", "score": round(chance.uniform(0.6, 0.95), 2)}]
        return told(
            ticket.title,
            asks(
                ticket.text,
                data_part({"ticket": f"HD-{number}", "channel": chance.choice(("mail", "chat", "form"))}),
            ),
            uses("classify_ticket", {"text": ticket.text[:60]}, verdict, 0.5),
            uses(
                "search_articles",
                {"category": ticket.category, "language": ticket.language},
                {"articles": articles},
                0.6,
            ),
            says(ticket.reply),
            metadata={"ticket": f"HD-{number}", "language": ticket.language},
        )

    return tell


CONVERSATION = (
    (
        "I have a new laptop. How do I get my files from the old one?",
        "Everything in your home folder is on the server already and appears after you sign in. What lay "
        "on the desktop of the old one has to be copied: connect both with the cable in the box and start "
        "Move Files.",
    ),
    (
        "Move Files says 3 hours. Can I work meanwhile?",
        "Yes. It copies in the background; only do not close the old one.",
    ),
    (
        "It stopped at 62 %.",
        "The old laptop went to sleep. Connect its charger and choose Continue; it goes on where it was.",
    ),
    (
        "It goes on. Where are my browser bookmarks?",
        "Sign in to the browser with your work account: they come with it.",
    ),
    ("And saved passwords?", "Those too, after you confirm on your phone. That is on purpose."),
    (
        "My phone is the thing I do not have here.",
        "Then use one of the ten recovery codes that you printed in spring.",
    ),
    (
        "I did not print them…",
        "No harm. I can send a code to your manager, who gives it to you in person. Shall I?",
    ),
    ("Yes please.", "Sent to Jonas Brandt. It works for an hour."),
    (
        "Got it, I am in. VPN does not find the profile.",
        "It is made at the first sign-in and takes ten minutes. Try again soon.",
    ),
    (
        "VPN works! Last one: the old printer is gone from the list.",
        "The list follows your place. Choose 'Berlin, floor 4'.",
    ),
    (
        "Found it. Shall I send the old laptop back?",
        "Yes, in the box of the new one. The label is inside; pick-up is on Friday.",
    ),
    (
        "Do I have to erase it first?",
        "No. We do that, and it is encrypted until then. Only take out your smart card.",
    ),
    (
        "Done. Thank you, that was quick!",
        "Thank you for your patience. I close the ticket; write here if anything is missing.",
    ),
)


def turn(number: int) -> Told:
    """A turn of the long conversation."""
    question, reply = CONVERSATION[number]
    looked_up = uses(
        "search_articles", {"query": question[:40]}, {"articles": [{"id": f"KB-{310 + number}"}]}, 0.5
    )
    return told(
        question,
        asks(question),
        looked_up if number % 2 == 0 else [],
        says(reply),
        metadata={"ticket": "HD-24117"},
    )


AGENT = Agent(
    name="helpdesk-triage",
    model="mistral-small",
    source="a2a",
    instructions="You sort tickets and answer what you can, in the language of whoever wrote.",
    scenarios=tuple(answer(ticket) for ticket in TICKETS),
    raw=A2A,
)
